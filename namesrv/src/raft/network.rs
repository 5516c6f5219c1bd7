//! How openraft reaches the other members.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use openraft::error::{RPCError, ReplicationClosed, StreamingError, Unreachable as RaftUnreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use openraft::{AnyError, OptionalSend};
use tokio::time::timeout;

use super::frames::{Answer, Ballot, Question};
use super::types::{RaftVote, Snapshot, Types, log_id, of_vote, to_vote};
use crate::journal::Applied;

type RpcResult<T> = Result<T, RPCError<Types>>;

/// Longest wait for an answer; for one to a snapshot.
const ANSWER_MAX: Duration = Duration::from_secs(2);
const SNAPSHOT_MAX: Duration = Duration::from_secs(30);

/// The ways to the other members.
pub(crate) trait Peers: Send + Sync + 'static {
    /// Asks one of them. The caller has the deadline.
    fn ask(&self, to: u64, question: Question) -> BoxFuture<'static, Result<Answer, Unreachable>>;
}

/// A member did not answer, or not the question.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("namesrv {to} is out of reach: {why}")]
pub(crate) struct Unreachable {
    pub(crate) to: u64,
    pub(crate) why: String,
}

/// Makes one [`Peer`] for each member.
pub(super) struct Network(pub(super) Arc<dyn Peers>);

impl RaftNetworkFactory<Types> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, _node: &()) -> Peer {
        Peer { peers: Arc::clone(&self.0), to: target }
    }
}

/// One other member.
pub(super) struct Peer {
    peers: Arc<dyn Peers>,
    to: u64,
}

impl Peer {
    async fn ask(&self, question: Question, patience: Duration) -> RpcResult<Answer> {
        let answer = timeout(patience, self.peers.ask(self.to, question)).await;
        answer.map_err(|_| unreachable(format!("no answer within {patience:?}")))?.map_err(unreachable)
    }

    async fn ask_for_vote(&self, question: Question) -> RpcResult<VoteResponse<Types>> {
        match self.ask(question, ANSWER_MAX).await? {
            Answer::Voted { vote, last, granted } => Ok(VoteResponse::new(to_vote(vote), last.map(log_id), granted)),
            other => Err(strange(&other)),
        }
    }
}

impl RaftNetworkV2<Types> for Peer {
    type SnapshotData = Box<Applied>;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> RpcResult<AppendEntriesResponse<Types>> {
        let sent = request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id);
        match self.ask(Question::append(request), ANSWER_MAX).await? {
            Answer::Appended { last } if last.map(log_id) == sent => Ok(AppendEntriesResponse::Success),
            Answer::Appended { last } => Ok(AppendEntriesResponse::PartialSuccess(last.map(log_id))),
            Answer::Conflict { .. } => Ok(AppendEntriesResponse::Conflict),
            Answer::HigherVote { vote } => Ok(AppendEntriesResponse::HigherVote(to_vote(vote))),
            other => Err(strange(&other)),
        }
    }

    async fn vote(&mut self, request: VoteRequest<Types>, _option: RPCOption) -> RpcResult<VoteResponse<Types>> {
        self.ask_for_vote(Question::Vote(Ballot::of(&request))).await
    }

    async fn pre_vote(&mut self, request: VoteRequest<Types>, _option: RPCOption) -> RpcResult<VoteResponse<Types>> {
        self.ask_for_vote(Question::PreVote(Ballot::of(&request))).await
    }

    async fn full_snapshot(
        &mut self,
        vote: RaftVote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let question = Question::Snapshot { vote: of_vote(&vote), applied: snapshot.snapshot };
        let answer = tokio::select! {
            biased;
            closed = cancel => return Err(closed.into()),
            answer = self.ask(question, SNAPSHOT_MAX) => answer,
        };
        match answer {
            Ok(Answer::Installed { vote }) => Ok(SnapshotResponse::new(to_vote(vote))),
            Ok(other) => Err(StreamingError::Unreachable(why(format!("{other:?} is no answer to this question")))),
            Err(error) => Err(StreamingError::Unreachable(why(error))),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        _option: RPCOption,
    ) -> RpcResult<TransferLeaderResponse<Types>> {
        match self.ask(Question::take_over(&request), ANSWER_MAX).await? {
            Answer::TakesOver(true) => Ok(Ok(())),
            Answer::TakesOver(false) => Err(unreachable("it does not take over")),
            other => Err(strange(&other)),
        }
    }
}

fn strange(answer: &Answer) -> RPCError<Types> {
    unreachable(format!("{answer:?} is no answer to this question"))
}

fn unreachable(reason: impl fmt::Display) -> RPCError<Types> {
    RPCError::Unreachable(why(reason))
}

fn why(reason: impl fmt::Display) -> RaftUnreachable<Types> {
    RaftUnreachable::new(&AnyError::error(reason.to_string()))
}
