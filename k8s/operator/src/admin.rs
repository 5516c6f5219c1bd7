//! The cluster, as its admin API shows it.

use std::time::Duration;

use apogee_proto::admin::v1 as admin;
use apogee_proto::admin::v1::admin_client::AdminClient;
use apogee_proto::token::{ClusterToken, TokenShown};
use futures::future::BoxFuture;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::crds::{ConsumerGroup, Topic};
use crate::kept::Kept;

/// A connection is there by then, or the cluster is not.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// Every call ends by then.
const CALL_MAX: Duration = Duration::from_secs(8);
/// A connection to a proxy that went away silently is noticed after these two together.
const PING_EVERY: Duration = Duration::from_secs(10);
const PONG_MAX: Duration = Duration::from_secs(5);

/// Why the cluster did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ClusterError {
    /// There is one of that name, which came since the cluster was looked at.
    #[error("{message}")]
    Exists { message: String },
    /// Asking for the same again does not help; the message is the cluster's.
    #[error("the cluster refuses: {message}")]
    Refused { reason: &'static str, message: String },
    #[error("the cluster does not accept the operator's token: {message}")]
    Token { message: String },
    /// Nobody knows whether it was done.
    #[error("the cluster does not answer: {message}")]
    Unreachable { message: String },
}

impl ClusterError {
    /// For the condition.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            ClusterError::Exists { .. } => "Exists",
            ClusterError::Refused { reason, .. } => reason,
            ClusterError::Token { .. } => "TokenRefused",
            ClusterError::Unreachable { .. } => "ClusterUnreachable",
        }
    }
}

impl From<Status> for ClusterError {
    fn from(status: Status) -> ClusterError {
        let message = told(&status);
        match status.code() {
            Code::AlreadyExists => ClusterError::Exists { message },
            Code::InvalidArgument | Code::OutOfRange => ClusterError::Refused { reason: "Impossible", message },
            Code::FailedPrecondition | Code::NotFound | Code::Unimplemented => {
                ClusterError::Refused { reason: "Refused", message }
            }
            Code::Unauthenticated | Code::PermissionDenied => ClusterError::Token { message },
            _ => ClusterError::Unreachable { message },
        }
    }
}

/// What the cluster said, or what kept it from saying something.
fn told(status: &Status) -> String {
    let mut cause = std::error::Error::source(status);
    let mut deepest = None;
    while let Some(error) = cause {
        deepest = Some(error);
        cause = error.source();
    }
    match deepest.map(ToString::to_string) {
        Some(cause) if !status.message().contains(&cause) => format!("{}: {cause}", status.message()),
        _ => status.message().to_owned(),
    }
}

/// What is asked of the cluster about one kind of object: of the real one, or of one in a test that loses answers.
pub(crate) trait Cluster<K: Kept>: Send + Sync + 'static {
    /// What it has under this name; `None` when it has nothing.
    fn look<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<K::There>, ClusterError>>;
    fn create(&self, ask: K::Create) -> BoxFuture<'_, Result<K::There, ClusterError>>;
    fn alter(&self, ask: K::Alter) -> BoxFuture<'_, Result<K::There, ClusterError>>;
    /// Fine, too, when there is nothing of this name.
    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), ClusterError>>;
}

/// What is asked of the cluster about its store-nodes. Draining, undraining and removing one that it does not know is fine.
pub(crate) trait Nodes: Send + Sync + 'static {
    /// What the proxy that answers knows, which may be old.
    fn describe(&self) -> BoxFuture<'_, Result<admin::DescribeClusterResponse, ClusterError>>;
    /// Marks it, or leaves it marked; what is described afterwards is not older than that.
    fn drain<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), ClusterError>>;
    fn undrain<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), ClusterError>>;
    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), ClusterError>>;
}

/// One connection to the admin API, made when it is needed.
#[derive(Clone)]
pub(crate) struct Admin {
    api: AdminClient<InterceptedService<Channel, TokenShown>>,
}

impl Admin {
    /// `address` is `host:port`.
    ///
    /// # Errors
    /// When the address is none.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn new(address: &str, token: Option<&ClusterToken>) -> Result<Admin, tonic::transport::Error> {
        let channel = Endpoint::from_shared(format!("http://{address}"))?
            .connect_timeout(CONNECT_MAX)
            .timeout(CALL_MAX)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PONG_MAX)
            .connect_lazy();
        Ok(Admin { api: AdminClient::with_interceptor(channel, TokenShown::new(token)) })
    }
}

impl Cluster<Topic> for Admin {
    fn look<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<admin::Topic>, ClusterError>> {
        Box::pin(async move {
            // Asks no store-node.
            let ask = admin::DescribeTopicRouteRequest { namespace: String::new(), name: name.to_owned() };
            let answer = self.api.clone().describe_topic_route(ask).await;
            there(answer.map(|answer| answer.into_inner().topic))
        })
    }

    fn create(&self, ask: admin::CreateTopicRequest) -> BoxFuture<'_, Result<admin::Topic, ClusterError>> {
        Box::pin(async { whole(self.api.clone().create_topic(ask).await?.into_inner().topic) })
    }

    fn alter(&self, ask: admin::AlterTopicRequest) -> BoxFuture<'_, Result<admin::Topic, ClusterError>> {
        Box::pin(async { whole(self.api.clone().alter_topic(ask).await?.into_inner().topic) })
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(async move {
            let ask = admin::DeleteTopicRequest { namespace: String::new(), name: name.to_owned() };
            gone(self.api.clone().delete_topic(ask).await.map(drop))
        })
    }
}

impl Cluster<ConsumerGroup> for Admin {
    fn look<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<admin::Group>, ClusterError>> {
        Box::pin(async move {
            let (namespace, name) = (String::new(), name.to_owned());
            let ask = admin::DescribeGroupRequest { namespace, name, settings_only: true };
            let answer = self.api.clone().describe_group(ask).await;
            there(answer.map(|answer| answer.into_inner().group))
        })
    }

    fn create(&self, ask: admin::CreateGroupRequest) -> BoxFuture<'_, Result<admin::Group, ClusterError>> {
        Box::pin(async { whole(self.api.clone().create_group(ask).await?.into_inner().group) })
    }

    fn alter(&self, ask: admin::AlterGroupRequest) -> BoxFuture<'_, Result<admin::Group, ClusterError>> {
        Box::pin(async { whole(self.api.clone().alter_group(ask).await?.into_inner().group) })
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(async move {
            let ask = admin::DeleteGroupRequest { namespace: String::new(), name: name.to_owned() };
            gone(self.api.clone().delete_group(ask).await.map(drop))
        })
    }
}

impl Nodes for Admin {
    fn describe(&self) -> BoxFuture<'_, Result<admin::DescribeClusterResponse, ClusterError>> {
        Box::pin(async {
            let answer = self.api.clone().describe_cluster(admin::DescribeClusterRequest {}).await?;
            Ok(answer.into_inner())
        })
    }

    fn drain<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(async move {
            let ask = admin::DrainNodeRequest { name: name.to_owned() };
            gone(self.api.clone().drain_node(ask).await.map(drop))
        })
    }

    fn undrain<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(async move {
            let ask = admin::UndrainNodeRequest { name: name.to_owned() };
            gone(self.api.clone().undrain_node(ask).await.map(drop))
        })
    }

    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(async move {
            let ask = admin::RemoveNodeRequest { name: name.to_owned() };
            gone(self.api.clone().remove_node(ask).await.map(drop))
        })
    }
}

fn there<T>(answer: Result<Option<T>, Status>) -> Result<Option<T>, ClusterError> {
    match answer {
        Ok(there) => whole(there).map(Some),
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(status.into()),
    }
}

fn gone(answer: Result<(), Status>) -> Result<(), ClusterError> {
    match answer {
        Err(status) if status.code() != Code::NotFound => Err(status.into()),
        _ => Ok(()),
    }
}

fn whole<T>(answer: Option<T>) -> Result<T, ClusterError> {
    answer.ok_or_else(|| ClusterError::Unreachable { message: "half of its answer is missing".to_owned() })
}
