//! How openraft reaches the other replicas.

use bytes::Bytes;
use futures::{FutureExt as _, Stream, StreamExt as _};
use openraft::base::{BoxFuture, BoxStream};
use openraft::error::{RPCError, ReplicationClosed, StreamingError, Unreachable as RaftUnreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{AnyError, OptionalSend};
use std::sync::Arc;
use tokio::time::timeout;

use super::snapshot::Snapshot;
use super::transfer::Source;
use super::types::{RaftVote, Types};
use super::wire;
use crate::peers::{NotAFrame, Peers};
use crate::replica::Member;

type RpcResult<T> = Result<T, RPCError<Types>>;

/// Makes one [`Peer`] for each replica.
pub(crate) struct Network {
    pub(crate) peers: Arc<dyn Peers>,
    pub(crate) source: Arc<Source>,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: Member, _node: &()) -> Peer {
        Peer { peers: Arc::clone(&self.peers), source: Arc::clone(&self.source), to: target }
    }
}

/// One other replica, in one of its lives.
pub(crate) struct Peer {
    peers: Arc<dyn Peers>,
    source: Arc<Source>,
    to: Member,
}

impl Peer {
    async fn ask<T>(
        &self,
        frame: Bytes,
        option: &RPCOption,
        read: impl FnOnce(&Bytes) -> Result<T, NotAFrame>,
    ) -> RpcResult<T> {
        let call = self.peers.call(self.to.replica, wire::meant_for(self.to.instance, frame));
        let answer = timeout(option.hard_ttl(), call).await;
        let answer = answer.map_err(unreachable)?.map_err(unreachable)?;
        read(&answer).map_err(unreachable)
    }
}

impl RaftNetworkV2<Types> for Peer {
    type SnapshotData = ();

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> RpcResult<AppendEntriesResponse<Types>> {
        let (prev, sent) = (request.prev_log_id, request.entries.last().map(|entry| entry.log_id));
        let answer = self.ask(wire::append(&request), &option, wire::read_appended).await?;
        Ok(match answer {
            Ok(last) if last == sent.or(prev) => AppendEntriesResponse::Success,
            Ok(last) => AppendEntriesResponse::PartialSuccess(last),
            Err(StreamAppendError::Conflict(_)) => AppendEntriesResponse::Conflict,
            Err(StreamAppendError::HigherVote(vote)) => AppendEntriesResponse::HigherVote(vote),
        })
    }

    /// Pipelined: the next blocks leave while the answers to earlier ones are on their way.
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, RpcResult<BoxStream<'s, RpcResult<StreamAppendResult<Types>>>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        let instance = self.to.instance;
        let frames = input.map(move |request| wire::meant_for(instance, wire::append(&request))).boxed();
        let answers = self.peers.pipeline(self.to.replica, frames).map(|answer| {
            let frame = answer.map_err(unreachable)?;
            wire::read_appended(&frame).map_err(unreachable)
        });
        let answers: BoxStream<'s, _> = Box::pin(answers);
        async { Ok(answers) }.boxed()
    }

    async fn vote(&mut self, request: VoteRequest<Types>, option: RPCOption) -> RpcResult<VoteResponse<Types>> {
        self.ask(wire::vote(&request, false), &option, wire::read_voted).await
    }

    async fn pre_vote(&mut self, request: VoteRequest<Types>, option: RPCOption) -> RpcResult<VoteResponse<Types>> {
        self.ask(wire::vote(&request, true), &option, wire::read_voted).await
    }

    async fn full_snapshot(
        &mut self,
        vote: RaftVote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let sending = self.source.send(vote, &snapshot.meta, |frame| {
            self.peers.call(self.to.replica, wire::meant_for(self.to.instance, frame))
        });
        let sent = tokio::select! {
            biased;
            closed = cancel => return Err(closed.into()),
            sent = sending => sent,
        };
        sent.map(SnapshotResponse::new).map_err(|why| {
            tracing::info!(event = "base_not_sent", to = %self.to, %why, "a base was not sent");
            StreamingError::Unreachable(RaftUnreachable::new(&AnyError::error(why.to_string())))
        })
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> RpcResult<TransferLeaderResponse<Types>> {
        let taken = self.ask(wire::transfer(&request), &option, wire::read_transferred).await?;
        match taken {
            true => Ok(Ok(())),
            false => Err(unreachable(NotAFrame { why: "it did not take over" })),
        }
    }
}

fn unreachable(why: impl std::error::Error + 'static) -> RPCError<Types> {
    RPCError::Unreachable(RaftUnreachable::new(&AnyError::error(why.to_string())))
}
