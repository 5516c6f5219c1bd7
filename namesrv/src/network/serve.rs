//! What other members reach.

use apogee_host::{Exit, OnError, Stop, Tasks};
use apogee_proto::namesrv::v1;
use apogee_proto::namesrv::v1::consensus_server::{Consensus, ConsensusServer};
use apogee_proto::token::{CLUSTER_TOKEN, ClusterToken, TokenCheck};
use tokio::net::TcpListener;
use tonic::service::InterceptorLayer;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use super::MESSAGE_MAX;
use crate::raft::Question;
use crate::server::Namesrv;

/// Serves the other members on `listener` until this one has left them, after the tasks close. Whoever does not show `token` is refused.
pub fn serve_consensus(tasks: &Tasks, listener: TcpListener, namesrv: Namesrv, token: Option<ClusterToken>) {
    let left = namesrv.shared().left.clone();
    let service = ConsensusServer::new(Members { namesrv })
        .max_decoding_message_size(MESSAGE_MAX)
        .max_encoding_message_size(MESSAGE_MAX);
    let server = Server::builder()
        .layer(InterceptorLayer::new(TokenCheck::new(token, CLUSTER_TOKEN)))
        .add_service(service)
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)));
    tasks.spawn("namesrv-consensus", OnError::StopProcess, async move {
        // Nobody waits for the ends of calls: the others ask somebody else.
        let served = left.run_until_cancelled(server).await.unwrap_or(Ok(()));
        served.map_err(|error| Stop::new(Exit::Io, error))
    });
}

struct Members {
    namesrv: Namesrv,
}

#[tonic::async_trait]
impl Consensus for Members {
    async fn ask(&self, request: Request<v1::Question>) -> Result<Response<v1::Answer>, Status> {
        let v1::Question { wiring, payload } = request.into_inner();
        self.check(wiring.as_ref())?;
        let question: Question = serde_json::from_slice(&payload)
            .map_err(|error| Status::invalid_argument(format!("this question cannot be read: {error}")))?;
        let answer = self.namesrv.answer(question).await.map_err(Status::unavailable)?;
        let payload = serde_json::to_vec(&answer).map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(v1::Answer { payload: payload.into() }))
    }
}

impl Members {
    /// Refuses what is not for this member.
    fn check(&self, wiring: Option<&v1::Wiring>) -> Result<(), Status> {
        let me = self.namesrv.shared().me;
        let wrong = |why: String| Err(Status::failed_precondition(why));
        let Some(wiring) = wiring else { return wrong("the question does not say who it is from and for".to_owned()) };
        let (from, meant) = (wiring.from_member, wiring.to_member);
        if meant != me {
            return wrong(format!(
                "this is namesrv {me}, the question is for {meant}; an address of namesrv {from} is wrong"
            ));
        }
        if from == me {
            return wrong(format!(
                "this is namesrv {me}, and the question says it is from {me} too; two have the same id"
            ));
        }
        if !self.namesrv.shared().members.contains_key(&from) {
            return wrong(format!("this is namesrv {me}, and it knows no namesrv {from}"));
        }
        match self.namesrv.cluster().map(|cluster| cluster.cluster_id) {
            Some(ours) if wiring.cluster_id != 0 && wiring.cluster_id != ours => wrong(format!(
                "this is namesrv {me} of cluster {ours:016x}, the question is from cluster {:016x}",
                wiring.cluster_id
            )),
            Some(_) | None => Ok(()),
        }
    }
}
