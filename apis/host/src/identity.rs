//! Who this process is, for logs, metrics and `/version`.

/// The words that every log line and every metric series carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Name of the cluster.
    pub cluster: String,
    /// `proxy`, `store-node`, `namesrv`, or `dev` for all of them in one process.
    pub role: &'static str,
    /// The role as upstream's dashboards know it: `proxy`, `broker`, `nameserver`.
    pub node_type: &'static str,
    /// Name of this process in the cluster; the pod in Kubernetes.
    pub node: String,
    /// Version of the build.
    pub version: &'static str,
}
