//! What other replicas reach: frames for a replica of this store-node go to its engine's ear, others are refused.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use apogee_engine::Ear;
use apogee_model::ReplicaGroupId;
use apogee_proto::store::v1::replication_server::{Replication as Service, ReplicationServer};
use apogee_proto::store::v1::{Frame, Wiring};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::ready;
use futures::stream::BoxStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::{Identity, MESSAGE_MAX, WrongWiring};

/// How long a pipeline may be open without saying where it wants to go.
const OPENING_MAX: Duration = Duration::from_secs(5);

/// The service on the replication port. Clones share the replicas.
#[derive(Clone, Default)]
pub struct Replication {
    replicas: Arc<RwLock<BTreeMap<ReplicaGroupId, Listener>>>,
    /// From then on nobody is listened to: the engines are about to stop.
    stop: CancellationToken,
}

/// A replica that others may speak to.
#[derive(Clone)]
struct Listener {
    me: Identity,
    ear: Ear,
    /// Nobody is listened to any more.
    forgotten: CancellationToken,
}

impl Replication {
    /// Lets others speak to a replica from now on, in the place of an earlier one of its group.
    pub fn listen(&self, me: Identity, ear: Ear) {
        let listener = Listener { me, ear, forgotten: CancellationToken::new() };
        self.replicas.write().unwrap_or_else(PoisonError::into_inner).insert(me.group, listener);
    }

    /// Lets nobody speak to the replica of this group any more, and ends the pipelines to it.
    pub fn forget(&self, group: ReplicaGroupId) {
        if let Some(listener) = self.replicas.write().unwrap_or_else(PoisonError::into_inner).remove(&group) {
            listener.forgotten.cancel();
        }
    }

    /// Listens to nobody from `stop` on, and ends the pipelines there are.
    pub(crate) fn until(self, stop: CancellationToken) -> Self {
        Self { stop, ..self }
    }

    /// As a tower service.
    pub fn service(self) -> ReplicationServer<impl Service> {
        ReplicationServer::new(self).max_decoding_message_size(MESSAGE_MAX).max_encoding_message_size(MESSAGE_MAX)
    }

    /// Whom a frame is for.
    fn listener(&self, wiring: Option<&Wiring>) -> Result<Listener, Status> {
        self.wired(wiring).map_err(|wrong| match wrong {
            // It has not heard yet that it hosts one.
            WrongWiring::Group { .. } => Status::unavailable(wrong.to_string()),
            WrongWiring::Unsaid
            | WrongWiring::Cluster { .. }
            | WrongWiring::Replica { .. }
            | WrongWiring::Twin { .. } => Status::failed_precondition(wrong.to_string()),
        })
    }

    fn wired(&self, wiring: Option<&Wiring>) -> Result<Listener, WrongWiring> {
        let wiring = wiring.ok_or(WrongWiring::Unsaid)?;
        let group = ReplicaGroupId(wiring.replica_group);
        let replicas = self.replicas.read().unwrap_or_else(PoisonError::into_inner);
        let listener = replicas.get(&group).ok_or(WrongWiring::Group { group })?;
        listener.me.check(wiring)?;
        Ok(listener.clone())
    }
}

#[tonic::async_trait]
impl Service for Replication {
    async fn call(&self, request: Request<Frame>) -> Result<Response<Frame>, Status> {
        let frame = request.into_inner();
        let Listener { ear, .. } = self.listener(frame.wiring.as_ref())?;
        if self.stop.is_cancelled() {
            return Err(Status::unavailable("this replica stops"));
        }
        let answer = ear.answer(frame.payload).await;
        let payload = answer.map_err(|not_a_frame| Status::invalid_argument(not_a_frame.to_string()))?;
        Ok(Response::new(Frame { wiring: None, payload }))
    }

    type PipelineStream = BoxStream<'static, Result<Frame, Status>>;

    async fn pipeline(&self, request: Request<Streaming<Frame>>) -> Result<Response<Self::PipelineStream>, Status> {
        let mut frames = request.into_inner();
        let opening = timeout(OPENING_MAX, frames.message()).await;
        let opening = opening.map_err(|_| Status::deadline_exceeded("the pipeline does not say whom it is for"))??;
        let wiring = opening.as_ref().and_then(|frame| frame.wiring.as_ref());
        let Listener { ear, forgotten, .. } = self.listener(wiring)?;
        let frames = frames.take_until(self.stop.clone().cancelled_owned());
        let frames = frames.take_until(forgotten.cancelled_owned());
        let readable = frames.take_while(|frame| ready(frame.is_ok()));
        let payloads = readable.filter_map(|frame| ready(frame.ok().map(|frame| frame.payload))).boxed();
        let answers = ear.answer_pipeline(payloads);
        Ok(Response::new(answers.map(|payload: Bytes| Ok(Frame { wiring: None, payload })).boxed()))
    }
}
