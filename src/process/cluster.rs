//! Which cluster a role belongs to: its name, its token, and where its namesrv are.

use std::net::IpAddr;

use apogee_host::config::Secret;
use apogee_host::{Entropy, Exit, ExitWith};
use apogee_proto::token::{ClusterToken, TokenError};
use serde::{Deserialize, Serialize};

use super::config::{ClusterName, is_address};

/// What all roles of a cluster have in common.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cluster {
    /// Shown to clients as the name of the one broker, and in logs and metrics. Default `DefaultCluster`.
    pub(crate) name: String,
    /// 64 hexadecimal digits that let a process take part, the same for all of the cluster; usually in a file, see
    /// `cluster.token_file`. Default none: whoever reaches a port takes part, so all ports are on loopback.
    pub(crate) token: Secret,
}

/// Where a role finds namesrv.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Namesrv {
    /// `host:port` of all of them, in any order. Default `127.0.0.1:9876`; `NAMESRV_ADDR` sets it too, with `;` between
    /// them.
    pub(crate) addresses: Vec<String>,
}

/// Values that let no cluster be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadCluster {
    #[error(transparent)]
    Name(#[from] ClusterName),
    #[error("cluster.token is no token: {0}; `openssl rand -hex 32` makes one")]
    Token(TokenError),
    #[error(
        "listen is {listen} and there is no cluster token, so every machine that reaches it could take part; set \
         cluster.token_file, or listen on loopback"
    )]
    Open { listen: IpAddr },
    #[error("namesrv.addresses is empty; name at least one namesrv as host:port")]
    NoNamesrv,
    #[error("namesrv.addresses names {address:?}, which is not host:port")]
    Namesrv { address: String },
}

impl ExitWith for BadCluster {
    fn exit(&self) -> Exit {
        Exit::Usage
    }
}

impl Default for Cluster {
    fn default() -> Cluster {
        Cluster { name: "DefaultCluster".to_owned(), token: Secret::default() }
    }
}

impl Default for Namesrv {
    fn default() -> Namesrv {
        Namesrv { addresses: vec!["127.0.0.1:9876".to_owned()] }
    }
}

impl Cluster {
    /// The token, when everything fits together for a role that listens there.
    pub(crate) fn check(&self, listen: IpAddr) -> Result<Option<ClusterToken>, BadCluster> {
        ClusterName::refuse(&self.name)?;
        if !self.token.is_empty() {
            return ClusterToken::parse(self.token.reveal()).map(Some).map_err(BadCluster::Token);
        }
        if listen.is_loopback() { Ok(None) } else { Err(BadCluster::Open { listen }) }
    }
}

impl Namesrv {
    /// The addresses, beginning at an arbitrary one: not everybody is to follow the first.
    pub(crate) fn shuffled(&self, entropy: &dyn Entropy) -> Vec<String> {
        let mut addresses = self.addresses.clone();
        let count = u64::try_from(addresses.len()).unwrap_or(1).max(1);
        addresses.rotate_left(usize::try_from(entropy.next_u64() % count).unwrap_or_default());
        addresses
    }

    pub(crate) fn check(&self) -> Result<(), BadCluster> {
        if self.addresses.is_empty() {
            return Err(BadCluster::NoNamesrv);
        }
        let bad = self.addresses.iter().find(|address| !is_address(address));
        bad.map_or(Ok(()), |address| Err(BadCluster::Namesrv { address: address.clone() }))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::Ipv4Addr;

    use apogee_host::SeededEntropy;

    use super::*;

    #[test]
    fn without_a_token_everybody_is_on_this_machine() {
        let (here, everywhere) = (Ipv4Addr::LOCALHOST.into(), Ipv4Addr::UNSPECIFIED.into());
        let mut cluster = Cluster::default();
        assert_eq!(cluster.check(here), Ok(None));
        assert_eq!(cluster.check(everywhere), Err(BadCluster::Open { listen: everywhere }));
        cluster.token = "ab".repeat(32).into();
        assert!(cluster.check(everywhere).is_ok_and(|token| token.is_some()));
        cluster.token = "ab".to_owned().into();
        assert_eq!(cluster.check(here), Err(BadCluster::Token(TokenError)));
    }

    #[test]
    fn everybody_begins_at_another_namesrv() {
        let all = Namesrv { addresses: ["a:1", "b:1", "c:1"].map(str::to_owned).into() };
        let entropy = SeededEntropy::new(1);
        let firsts: BTreeSet<_> = (0..100).map(|_| all.shuffled(&entropy).remove(0)).collect();
        assert_eq!(firsts.len(), 3);
        let mut one = all.shuffled(&entropy);
        one.sort_unstable();
        assert_eq!(one, all.addresses);
    }

    #[test]
    fn a_namesrv_is_host_and_port() {
        let check = |addresses: &[&str]| {
            Namesrv { addresses: addresses.iter().map(|it| (*it).to_owned()).collect() }
                .check()
                .map_err(|bad| bad.to_string())
        };
        assert_eq!(check(&["namesrv-0.namesrv:9876", "[::1]:1"]), Ok(()));
        assert!(check(&[]).is_err_and(|told| told.contains("at least one")));
        assert!(check(&["a:1", "b"]).is_err_and(|told| told.contains("\"b\"")));
    }
}
