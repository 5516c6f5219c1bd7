//! The owner of one lane: takes requests as long as there is room for their answers, and carries them out side by side.

use std::sync::Arc;
use std::time::Duration;

use apogee_engine::{Checks, Engine, Role};
use apogee_model::ClientId;
use apogee_model::store::{CheckBack, GroupRef, TopicRef};
use apogee_proto::Malformed;
use apogee_proto::store::v1::lane_request::Ask;
use apogee_proto::store::v1::{Filter, LaneError, LaneRequest, LaneRequests, ProducersAsk, WatchAsk};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::outbox::Outbox;
use super::standing;
use super::watches::Watches;
use super::work::{Finished, Request, refused};

/// Requests and bytes of messages under way; more stay with the transport, and then with the proxy.
const UNDER_WAY_MAX: usize = 8192;
const UNDER_WAY_BYTES_MAX: usize = 64 << 20;
/// Answers that are put into the outbox together.
const BURST: usize = 512;
/// How long requests may take to finish when the store-node is about to stop.
const DRAIN_MAX: Duration = Duration::from_secs(4);
/// And how long the transport may take to take their answers.
const FLUSH_MAX: Duration = Duration::from_secs(1);

/// One lane.
pub(super) struct Driver {
    pub(super) engine: Engine,
    pub(super) role: watch::Receiver<Role>,
    pub(super) outbox: Arc<Outbox>,
    /// Another lane wants the place of this one.
    pub(super) stop: CancellationToken,
    /// The process ends.
    pub(super) killed: CancellationToken,
    /// The store-node is about to stop.
    pub(super) draining: CancellationToken,
}

/// What is under way.
#[derive(Default)]
struct UnderWay {
    work: FuturesUnordered<BoxFuture<'static, Finished>>,
    bytes: usize,
    watches: Watches,
    /// Of the producers the proxy has, once it said so.
    checks: Option<Checks>,
}

impl Driver {
    /// Until either side ends the lane.
    pub(super) async fn run(mut self, early: Vec<LaneRequest>, requests: Streaming<LaneRequests>) {
        let mut lane = UnderWay::default();
        let outcome = self.serve(early, requests, &mut lane).await;
        if self.draining.is_cancelled() && !self.stop.is_cancelled() {
            self.finish(&mut lane).await;
        }
        self.outbox.end(outcome);
        drop(lane); // pops under way give back what they are granted
        let unsent = self.outbox.unsent();
        if !unsent.is_empty() {
            self.engine.release(unsent);
        }
    }

    /// The error is told to the proxy: it sent something that makes no sense.
    async fn serve(
        &mut self,
        early: Vec<LaneRequest>,
        mut requests: Streaming<LaneRequests>,
        lane: &mut UnderWay,
    ) -> Result<(), Status> {
        let (mut role_known, outbox) = (true, Arc::clone(&self.outbox));
        self.start(early, lane)?;
        loop {
            let room = outbox.has_room();
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(()),
                () = self.killed.cancelled() => return Ok(()),
                () = self.draining.cancelled() => return Ok(()),
                changed = self.role.changed(), if role_known => match changed {
                    Ok(()) => self.turn(lane),
                    Err(_) => role_known = false,
                },
                Some(finished) = lane.work.next(), if room => self.answer(finished, lane),
                (id, ready) = lane.watches.next() => outbox.edge(id, ready),
                check = next_check(&mut lane.checks), if room => outbox.check(&check),
                frame = requests.next(), if lane.has_room() => match frame {
                    Some(Ok(frame)) => self.start(frame.requests, lane)?,
                    Some(Err(_)) | None => return Ok(()),
                },
                () = outbox.taken() => if outbox.transport_gone() {
                    return Ok(());
                },
            }
        }
    }

    /// Leading anew, or no more: proxies set their watches again where somebody leads.
    fn turn(&mut self, lane: &mut UnderWay) {
        let role = *self.role.borrow_and_update();
        lane.watches.clear();
        lane.checks = None;
        self.outbox.standing(standing(role));
    }

    fn start(&self, requests: Vec<LaneRequest>, lane: &mut UnderWay) -> Result<(), Status> {
        let role = *self.role.borrow();
        for LaneRequest { id, deadline_ms, ask } in requests {
            let read = match ask {
                Some(Ask::Watch(ask)) => {
                    self.watch(ask, lane)?;
                    continue;
                }
                Some(Ask::Unwatch(watch)) => {
                    lane.watches.end(watch);
                    continue;
                }
                Some(Ask::Producers(ask)) => {
                    self.producers(ask, lane);
                    continue;
                }
                Some(ask) => Request::read(ask),
                None => Err(Malformed { what: "the request" }),
            };
            match read {
                Ok(request) => {
                    lane.bytes += request.weight();
                    lane.work.push(Box::pin(request.carry_out(id, deadline_ms, self.engine.clone(), role)));
                }
                Err(malformed) => self.outbox.push([refused(id, LaneError::from(malformed))]),
            }
        }
        Ok(())
    }

    fn watch(&self, ask: WatchAsk, lane: &mut UnderWay) -> Result<(), Status> {
        let WatchAsk { id, group, topic, filter, client } = ask;
        let read = (group.map(GroupRef::try_from), topic.map(TopicRef::try_from));
        let (Some(Ok(group)), Some(Ok(topic))) = read else {
            return Err(Status::invalid_argument("a watch has no group or no topic"));
        };
        let filter =
            Filter::into_filter(filter).map_err(|malformed| Status::invalid_argument(malformed.to_string()))?;
        if lane.watches.is_full() {
            return Err(Status::resource_exhausted("the lane has too many watches"));
        }
        let watch = match client.map(|client| ClientId::parse(&client)) {
            None => self.engine.watch(&group, &topic, filter),
            Some(Some(client)) => self.engine.watch_lite(&group, &topic, &client),
            Some(None) => return Err(Status::invalid_argument("a watch is for a client without a name")),
        };
        lane.watches.set(id, watch);
        self.outbox.edge(id, 1); // for what became ready before
        Ok(())
    }

    /// The proxy has producers for these topics, or none any more.
    fn producers(&self, ask: ProducersAsk, lane: &mut UnderWay) {
        let topics = ask.into_topics();
        match &lane.checks {
            _ if topics.is_empty() => lane.checks = None,
            Some(checks) => checks.set_topics(topics),
            None => lane.checks = Some(self.engine.checks(topics)),
        }
    }

    /// Puts this answer and those that are ready beside it into the outbox.
    fn answer(&self, finished: Finished, lane: &mut UnderWay) {
        let mut burst = Vec::new();
        let mut next = Some(finished);
        while let Some(finished) = next {
            lane.bytes -= finished.weight;
            burst.extend(finished.into_answers());
            next = if burst.len() < BURST { lane.work.next().now_or_never().flatten() } else { None };
        }
        self.outbox.push(burst);
    }

    /// Answers what was asked before the store-node began to stop. Nothing new is read.
    async fn finish(&self, lane: &mut UnderWay) {
        let answered = async {
            while let Some(finished) = lane.work.next().await {
                self.answer(finished, lane);
            }
        };
        if timeout(DRAIN_MAX, answered).await.is_err() {
            tracing::debug!(event = "lane_cut", "some requests had no answer when the lane ended");
        }
        let _the_transport_may_be_slow = timeout(FLUSH_MAX, self.outbox.emptied()).await;
    }
}

impl UnderWay {
    fn has_room(&self) -> bool {
        self.work.len() < UNDER_WAY_MAX && self.bytes < UNDER_WAY_BYTES_MAX
    }
}

/// Cancel safe; never ends while nobody has producers.
async fn next_check(checks: &mut Option<Checks>) -> CheckBack {
    match checks {
        Some(checks) => checks.next().await,
        None => std::future::pending().await,
    }
}
