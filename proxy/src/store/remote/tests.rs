//! The remote store against store-nodes that do what a test wants.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Mutex;

use apogee_host::net;
use apogee_model::store::{LeaseTerms, RequestId};
use apogee_model::{ConsumerGroup, DeliveryOrder, QueueId, QueueOffset, StoredMessage, Timestamp, Topic};
use apogee_proto::store::v1::lane_server::{Lane as Service, LaneServer};
use apogee_proto::store::v1::{
    self, AppendedAt, Done, LaneAnswer, LaneAnswers, LaneError, LaneHello, LaneRequest, LaneRequests, LaneWelcome,
    PoppedPart, Standing,
};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::sync::Notify;
use tokio::time::timeout;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use super::*;

const SOON: Duration = Duration::from_secs(10);

/// What a store-node does with a request.
enum Act {
    Answer(Answered),
    Fail(StoreError),
    /// Ends the lane without a word.
    Break,
    /// Answers when told to.
    Later(Answered, Arc<Notify>),
    Never,
}

/// A store-node that leads and keeps to a script; notes are always taken.
#[derive(Clone, Default)]
struct Fake {
    script: Arc<Mutex<VecDeque<Act>>>,
    seen: Arc<Mutex<Vec<Ask>>>,
}

impl Fake {
    fn serve(self, tasks: &Tasks) -> String {
        let listener = net::listen(([127, 0, 0, 1], 0).into()).expect("some port is free");
        let address = listener.local_addr().expect("a listener has an address").to_string();
        let server =
            Server::builder().add_service(LaneServer::new(self)).serve_with_incoming(TcpIncoming::from(listener));
        let stop = tasks.token();
        tasks.spawn("fake", OnError::LogAndEnd, async move {
            stop.run_until_cancelled(server).await;
            Ok::<_, Infallible>(())
        });
        address
    }

    fn act(&self, request: LaneRequest) -> BoxStream<'static, Result<LaneAnswers, Status>> {
        let LaneRequest { id, ask, .. } = request;
        let ask = ask.expect("a proxy asks for something");
        let note = matches!(ask, Ask::Release(_) | Ask::Confirm(_) | Ask::Heard(_) | Ask::Lost(_));
        self.seen.lock().unwrap().push(ask);
        let act = match note {
            true => Act::Answer(Answered::Done(Done {})),
            false => self.script.lock().unwrap().pop_front().unwrap_or(Act::Never),
        };
        let answer = move |result| {
            let answers = vec![LaneAnswer { id, result: Some(result) }];
            Ok(LaneAnswers { answers, ..LaneAnswers::default() })
        };
        match act {
            Act::Answer(result) => futures::stream::iter([answer(result)]).boxed(),
            Act::Fail(error) => futures::stream::iter([answer(Answered::Error(LaneError::from(&error)))]).boxed(),
            Act::Break => futures::stream::iter([Err(Status::aborted("as the script says"))]).boxed(),
            Act::Later(result, when) => futures::stream::once(async move {
                when.notified().await;
                answer(result)
            })
            .boxed(),
            Act::Never => futures::stream::empty().boxed(),
        }
    }

    fn seen(&self) -> Vec<Ask> {
        self.seen.lock().unwrap().clone()
    }
}

#[tonic::async_trait]
impl Service for Fake {
    type WorkStream = BoxStream<'static, Result<LaneAnswers, Status>>;

    async fn work(&self, request: Request<Streaming<LaneRequests>>) -> Result<Response<Self::WorkStream>, Status> {
        let first = LaneAnswers {
            welcome: Some(LaneWelcome { cluster_id: 1, replica_id: 1 }),
            standing: Some(Standing { epoch: Some(1), leader: None }),
            ..LaneAnswers::default()
        };
        let fake = self.clone();
        let frames = request.into_inner().filter_map(|frame| std::future::ready(frame.ok()));
        let answers = frames.flat_map_unordered(None, move |frame| {
            let answers: Vec<_> = frame.requests.into_iter().map(|request| fake.act(request)).collect();
            futures::stream::select_all(answers)
        });
        Ok(Response::new(futures::stream::iter([Ok(first)]).chain(answers).boxed()))
    }
}

struct Scene {
    fake: Fake,
    store: RemoteGroup,
    _tasks: Tasks,
}

fn scene(script: impl IntoIterator<Item = Act>) -> Scene {
    let (fake, tasks) = (Fake::default(), Tasks::new());
    fake.script.lock().unwrap().extend(script);
    let addresses = vec![fake.clone().serve(&tasks)];
    let parts = RemoteGroupParts {
        group: ReplicaGroupId(0),
        connections: Arc::default(),
        incarnation: 1,
        stop: tasks.token(),
        tasks: tasks.clone(),
        metrics: Arc::new(StoreMetrics::new(&opentelemetry::global::meter("test"))),
    };
    let store = RemoteGroup::new(parts);
    store.at(&addresses).unwrap();
    Scene { fake, store, _tasks: tasks }
}

fn append(bytes: usize) -> Append {
    Append {
        topic: TopicRef { id: TopicId(1), name: Topic::parse("", "t").unwrap(), queues: 1 },
        queue: QueueId(0),
        message: StoredMessage { body_part: vec![0; bytes].into(), properties_part: Bytes::new() },
        request: RequestId { proxy_incarnation: 5, sequence: 6 },
        due: None,
        half: None,
        lite: None,
        indexed: true,
        epoch: 0,
    }
}

fn pop() -> Pop {
    Pop {
        group: GroupRef { id: GroupId(1), name: ConsumerGroup::parse("", "g").unwrap() },
        topic: append(0).topic,
        filter: Filter::default(),
        batch: 1,
        lease: LeaseTerms::AutoRenew,
        attempt_id: None,
        client: ClientId::parse("c").unwrap(),
        dead_letters: None,
        order: DeliveryOrder::Concurrent,
        priority: None,
        lite: false,
    }
}

fn appended() -> Answered {
    Answered::Appended(v1::Appended {
        places: vec![AppendedAt { queue: 0, offset: 3, stored_at_ms: 4, kept: None, half: None }],
    })
}

fn popped(offset: u64, last: bool) -> Answered {
    let message = Some(v1::StoredMessage::default());
    let key = Some(v1::DeliveryKey { offset, ..v1::DeliveryKey::default() });
    let delivery = v1::Delivery { key, attempt: 1, stored_at_ms: 1, invisible_ms: 60_000, message };
    Answered::Popped(PoppedPart { messages: vec![delivery], last, ..PoppedPart::default() })
}

#[tokio::test]
async fn the_same_send_goes_again_until_it_is_answered() {
    let again = [
        Act::Break,
        Act::Fail(StoreError::LeaderLost),
        Act::Fail(StoreError::NotLeader { leader: None }),
        Act::Fail(StoreError::Stopped),
        Act::Answer(appended()),
    ];
    let scene = scene(again);
    let stored = timeout(SOON, scene.store.append(vec![append(10)])).await.unwrap();
    let expected =
        Appended { queue: QueueId(0), offset: QueueOffset(3), stored_at: Timestamp(4), kept: None, half: None };
    assert_eq!(stored, Ok(vec![expected]));
    let seen = scene.fake.seen();
    assert_eq!(seen.len(), 5);
    assert!(seen.iter().all(|ask| *ask == seen[0]), "request ids and all");
}

#[tokio::test]
async fn what_no_other_leader_would_change_is_told_at_once() {
    let busy = StoreError::Busy { what: "a queue of the store-node" };
    let scene = scene([Act::Fail(busy.clone()), Act::Answer(popped(1, true))]);
    assert_eq!(scene.store.append(vec![append(1)]).await, Err(busy));
    let strange = scene.store.append(vec![append(1)]).await.unwrap_err();
    assert!(strange.to_string().contains("answers another question"), "{strange}");
}

#[tokio::test]
async fn a_pop_keeps_its_name_when_it_goes_again() {
    let scene = scene([Act::Answer(popped(1, false)), Act::Break, Act::Answer(popped(1, true))]);
    let first = scene.store.pop(pop());
    let second = scene.store.settle(pop_key(0), Settlement::Ack); // breaks the lanes under the first one
    tokio::select! {
        _ = second => {}
        popped = timeout(SOON, first) => {
            let messages = popped.unwrap().unwrap().messages;
            assert_eq!(messages.len(), 1, "a part that came before the break does not count");
        }
    }
    let names = scene.fake.seen().into_iter().filter_map(|ask| match ask {
        Ask::Pop(pop) => pop.attempt_id,
        _ => None,
    });
    let names = names.collect::<Vec<_>>();
    assert!(names.len() >= 2 && names.iter().all(|name| *name == names[0] && !name.is_empty()), "{names:?}");
}

fn pop_key(offset: u64) -> DeliveryKey {
    v1::DeliveryKey { offset, ..v1::DeliveryKey::default() }.try_into().unwrap()
}

#[tokio::test]
async fn when_time_is_over_it_is_said_whether_anything_may_have_happened() {
    let leader = Some(ReplicaId(3));
    let ask = |scene: &Scene| {
        let resender = scene.store.resender.clone();
        async move {
            let limit = Duration::from_millis(200);
            resender.ask(|lanes| &lanes.control, 0, limit, || Ask::DropTopic(1)).await.unwrap_err()
        }
    };
    let not_leader = || Act::Fail(StoreError::NotLeader { leader });
    let definite = scene((0..1000).map(|_| not_leader()));
    definite.store.has_leader().await;
    assert_eq!(ask(&definite).await, StoreError::NotLeader { leader });
    let doubtful = scene(std::iter::once(Act::Fail(StoreError::LeaderLost)).chain((0..1000).map(|_| not_leader())));
    doubtful.store.has_leader().await;
    assert_eq!(ask(&doubtful).await, StoreError::Timeout { waited: Duration::from_millis(200) });
    let silent = scene([Act::Never]);
    silent.store.has_leader().await;
    assert_eq!(ask(&silent).await, StoreError::Timeout { waited: Duration::from_millis(200) });
}

#[tokio::test]
async fn a_batch_that_comes_too_late_goes_back() {
    let now = Arc::new(Notify::new());
    let scene = scene([Act::Later(popped(77, true), Arc::clone(&now))]);
    scene.store.has_leader().await;
    assert!(timeout(Duration::from_millis(100), scene.store.pop(pop())).await.is_err());
    now.notify_one();
    let released = async {
        loop {
            let released = scene.fake.seen().into_iter().find_map(|ask| match ask {
                Ask::Release(keys) => Some(keys.keys[0].offset),
                _ => None,
            });
            if let Some(offset) = released {
                return offset;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    assert_eq!(timeout(SOON, released).await.unwrap(), 77);
}

#[tokio::test]
async fn bytes_that_wait_are_bounded() {
    let scene = scene([]);
    scene.store.has_leader().await;
    let mut asked: Vec<_> = (0..33).map(|_| scene.store.append(vec![append(1 << 20)])).collect();
    let last = asked.pop().unwrap();
    let waiting = futures::future::select_all(asked);
    tokio::select! {
        biased;
        _ = waiting => panic!("nobody answers"),
        refused = last => assert!(matches!(refused, Err(StoreError::Busy { .. })), "{refused:?}"),
    }
}

#[test]
fn frames_are_bounded_and_keep_the_order() {
    let (lane, mut frames) = Lane::new(LaneHello::default(), Notes::nowhere());
    let sizes = [10, 200 << 10, 100 << 10, 1 << 20, 10, 10];
    let told = sizes.map(|size| Ask::Append(AppendAsk::of(&[append(size)]).unwrap())).map(|ask| lane.tell(ask));
    futures::executor::block_on(futures::future::join_all(told));
    let shape = std::iter::from_fn(|| {
        let frame = futures::FutureExt::now_or_never(frames.next())??;
        Some((frame.hello.is_some(), frame.requests.len()))
    });
    assert_eq!(shape.collect::<Vec<_>>(), [(true, 2), (false, 1), (false, 1), (false, 2)]);
}
