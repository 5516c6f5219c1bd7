//! The other members, over gRPC.

use std::collections::BTreeMap;
use std::time::Duration;

use apogee_proto::namesrv::v1::consensus_client::ConsensusClient;
use apogee_proto::namesrv::v1::{self, Wiring};
use apogee_proto::reach::{Patience, endpoint};
use apogee_proto::token::{ClusterToken, TokenShown};
use futures::future::{BoxFuture, FutureExt as _};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::MESSAGE_MAX;
use crate::journal::OpenError;
use crate::raft::{Answer, Peers, Question, Unreachable};
use crate::server::Member;

const PATIENCE: Patience =
    Patience { connect: Duration::from_millis(500), ping_every: Duration::from_secs(1), ping: Duration::from_secs(2) };

type Client = ConsensusClient<InterceptedService<Channel, TokenShown>>;

/// [`Peers`] that connects when there is something to say.
pub(crate) struct TonicPeers {
    me: u64,
    clients: BTreeMap<u64, Client>,
}

impl TonicPeers {
    /// # Errors
    /// [`OpenError::Members`] names the first address that cannot be.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn new(
        me: u64,
        members: &BTreeMap<u64, Member>,
        token: Option<&ClusterToken>,
    ) -> Result<Self, OpenError> {
        let others = members.values().filter(|member| member.id != me);
        let client = |member: &Member| {
            let Member { id, consensus: address, .. } = member;
            let bad = || OpenError::Members(format!("{address:?} of namesrv {id} is not host:port"));
            let channel = endpoint(address, PATIENCE).ok_or_else(bad)?.connect_lazy();
            let client = ConsensusClient::with_interceptor(channel, TokenShown::new(token))
                .max_decoding_message_size(MESSAGE_MAX)
                .max_encoding_message_size(MESSAGE_MAX);
            Ok((*id, client))
        };
        Ok(Self { me, clients: others.map(client).collect::<Result<_, _>>()? })
    }
}

impl Peers for TonicPeers {
    fn ask(&self, to: u64, question: Question) -> BoxFuture<'static, Result<Answer, Unreachable>> {
        let (from, client) = (self.me, self.clients.get(&to).cloned());
        let asked = async move {
            let mut client = client.ok_or_else(|| "its address is not known here".to_owned())?;
            let payload = serde_json::to_vec(&question).map_err(|error| error.to_string())?.into();
            let wiring = Wiring { cluster_id: 0, from_member: from, to_member: to };
            let question = v1::Question { wiring: Some(wiring), payload };
            let answer = client.ask(question).await.map_err(|status| failed(to, &status))?;
            serde_json::from_slice(&answer.into_inner().payload).map_err(|error| error.to_string())
        };
        asked.map(move |answer| answer.map_err(|why| Unreachable { to, why })).boxed()
    }
}

fn failed(to: u64, status: &Status) -> String {
    let why = status.message().to_owned();
    if matches!(status.code(), Code::FailedPrecondition | Code::Unauthenticated) {
        tracing::error!(event = "namesrv_refuses", to, %why, "another namesrv refuses to listen");
    }
    why
}
