//! Replicas on simulated disks, and the words of the tests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use apogee_engine::{
    Dump, Ear, Engine, EngineParts, Members, MemoryViewStore, OpenError, Reached, ReplicaParts, Role, SEGMENT_MIN,
    Seating, Settings,
};
use apogee_host::{Disk as _, SeededEntropy, SimDisk, Tasks, TokioClock};
use apogee_model::store::{Append, GroupRef, LeaseTerms, Pop, RequestId, StoreError, TopicRef};
use apogee_model::{
    ClientId, ConsumerGroup, DeliveryOrder, Filter, GroupId, InvisibleDuration, QueueId, ReplicaGroupId, ReplicaId,
    StoredMessage, Topic, TopicId,
};
use bytes::Bytes;
use futures::future::join_all;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::net::Net;

/// Everything that is going to happen has happened by then.
pub(crate) const LONG: Duration = Duration::from_secs(30);
pub(crate) const GLANCE: Duration = Duration::from_millis(20);

/// See the module.
pub(crate) struct Group {
    net: Net,
    machines: BTreeMap<u64, Machine>,
    /// What is due in seconds comes in a test that pauses time.
    clock: TokioClock,
    seed: u64,
    sent: u64,
}

struct Machine {
    disk: SimDisk,
    views: MemoryViewStore,
    /// As namesrv said it last.
    seating: watch::Sender<Seating>,
    process: Option<Process>,
}

struct Process {
    tasks: Tasks,
    ear: Ear,
    opening: JoinSet<Result<Engine, OpenError>>,
    engine: Option<Engine>,
}

impl Group {
    /// Three machines with empty disks, without processes.
    pub(crate) fn new(seed: u64) -> Group {
        Group::of(3, seed)
    }

    fn of(replicas: u64, seed: u64) -> Group {
        let clock = TokioClock::since(Instant::now());
        let mut group = Group { net: Net::default(), machines: BTreeMap::new(), clock, seed, sent: 0 };
        let seating = Seating::of((1..=replicas).map(ReplicaId));
        for replica in 1..=replicas {
            group.add(replica, &seating);
        }
        group
    }

    /// Three replicas that founded a group.
    pub(crate) async fn founded(seed: u64) -> Group {
        Group::founded_by(3, seed).await
    }

    pub(crate) async fn founded_by(replicas: u64, seed: u64) -> Group {
        let mut group = Group::of(replicas, seed);
        for replica in 1..=replicas {
            group.start(replica);
        }
        group.all_open().await;
        group
    }

    /// One more machine with an empty disk, without a process.
    pub(crate) fn add(&mut self, replica: u64, seating: &Seating) {
        self.machines.insert(replica, Machine::new(self.seed * 31 + replica, seating.clone()));
    }

    /// All machines hear who the group is to be.
    pub(crate) fn seat(&self, seating: &Seating) {
        for replica in self.machines.keys() {
            self.seat_one(*replica, seating);
        }
    }

    pub(crate) fn seat_one(&self, replica: u64, seating: &Seating) {
        self.machines[&replica].seating.send_replace(seating.clone());
    }

    pub(crate) fn start(&mut self, replica: u64) {
        self.seed += 1;
        let machine = self.machines.get_mut(&replica).expect("there is such a machine");
        let (tasks, ear, me) = (Tasks::new(), Ear::default(), ReplicaId(replica));
        let seating = machine.seating.subscribe();
        let members = Members { me, group: ReplicaGroupId(0), seating, cluster_id: 7 };
        let engine = EngineParts {
            disk: Arc::new(machine.disk.clone()),
            clock: Arc::new(self.clock),
            tasks: tasks.clone(),
            meter: opentelemetry::global::meter("test"),
        };
        let parts = ReplicaParts {
            engine,
            views: Arc::new(machine.views.clone()),
            peers: Arc::new(self.net.plug_in(me, self.seed, ear.clone())),
            entropy: Arc::new(SeededEntropy::new(self.seed)),
            ear: ear.clone(),
        };
        // Old blocks are read from the disk.
        let settings = Settings { segment_bytes: SEGMENT_MIN, tail_bytes: 1 << 20, ..Settings::default() };
        let mut opening = JoinSet::new();
        opening.spawn(Engine::open_replica(parts, members, settings));
        machine.process = Some(Process { tasks, ear, opening, engine: None });
    }

    /// The process ends, and leaves its disk.
    pub(crate) async fn stop(&mut self, replica: u64) {
        self.net.unplug(ReplicaId(replica));
        if let Some(process) = self.machine(replica).process.take() {
            drop(process.opening);
            process.tasks.close(LONG).await;
        }
    }

    /// Nobody reaches the process any more, and it reaches nobody.
    pub(crate) fn cut_off(&self, replica: u64) {
        self.net.unplug(ReplicaId(replica));
    }

    /// The process ends as its disk does; what was durable is there again.
    pub(crate) async fn lose_power(&mut self, replica: u64) {
        self.stop(replica).await;
        let machine = self.machine(replica);
        machine.disk = machine.disk.power_cut();
        machine.views.crash();
    }

    /// The disk is replaced by an empty one.
    pub(crate) fn wipe(&mut self, replica: u64) {
        let seed = self.seed * 31 + replica;
        let machine = self.machine(replica);
        assert!(machine.process.is_none(), "it runs");
        let seating = machine.seating.borrow().clone();
        *machine = Machine::new(seed, seating);
    }

    /// The disk is replaced by one that holds nothing but some of the small files.
    pub(crate) async fn wipe_all_but(&mut self, replica: u64, kept: &[&str]) {
        let old = self.machine(replica).disk.clone();
        self.wipe(replica);
        for name in kept {
            let bytes = old.read(name).await.expect("the file is there");
            self.machine(replica).disk.replace(name, bytes).await.expect("the disk works");
        }
    }

    pub(crate) fn disk(&self, replica: u64) -> SimDisk {
        self.machines[&replica].disk.clone()
    }

    fn machine(&mut self, replica: u64) -> &mut Machine {
        self.machines.get_mut(&replica).expect("there is such a machine")
    }

    /// Waits until the replica wants to begin again, and says why.
    pub(crate) async fn begins_again(&mut self, replica: u64) -> String {
        let engine = self.open(replica).await;
        timeout(LONG, engine.again()).await.expect("it begins again").to_string()
    }

    /// Receives messages from the leader until one cannot be read.
    pub(crate) async fn receive_until_unreadable(&mut self) {
        let leader = self.leader().await;
        let engine = self.open(leader).await;
        let lease = LeaseTerms::Fixed(InvisibleDuration::for_receive(LONG).expect("in range"));
        let group = GroupRef { id: GroupId(1), name: ConsumerGroup::parse("", "billing").expect("a good name") };
        let pop = Pop {
            group,
            topic: topic(),
            filter: Filter::default(),
            batch: 1,
            lease,
            attempt_id: None,
            client: ClientId::parse("host@1@1").expect("not blank"),
            dead_letters: None,
            order: DeliveryOrder::Concurrent,
            priority: None,
            lite: false,
        };
        loop {
            match engine.pop(pop.clone()).await {
                Ok(popped) => assert!(!popped.messages.is_empty(), "all messages can be read"),
                Err(StoreError::Unreadable { .. }) => return,
                Err(other) => panic!("{other}"),
            }
        }
    }

    /// The engine, once it is open.
    pub(crate) async fn engine(&mut self, replica: u64) -> Option<Engine> {
        let process = self.machine(replica).process.as_mut()?;
        if let Some(opened) = process.opening.try_join_next() {
            match opened.expect("no panic") {
                Ok(engine) => process.engine = Some(engine),
                Err(error) => eprintln!("replica {replica} does not open: {error}"),
            }
        }
        process.engine.clone()
    }

    pub(crate) fn waits(&self, replica: u64) -> Option<String> {
        self.machines[&replica].process.as_ref().and_then(|process| process.ear.waits().borrow().clone())
    }

    pub(crate) async fn all_open(&mut self) {
        for replica in self.running() {
            self.open(replica).await;
        }
    }

    pub(crate) async fn open(&mut self, replica: u64) -> Engine {
        let end = Instant::now() + LONG;
        loop {
            if let Some(engine) = self.engine(replica).await {
                return engine;
            }
            assert!(Instant::now() < end, "replica {replica} does not open: {:?}", self.waits(replica));
            sleep(GLANCE).await;
        }
    }

    /// Who leads, if anybody does within this time.
    pub(crate) async fn leader_within(&mut self, time: Duration) -> Option<u64> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            for replica in self.running() {
                let engine = self.engine(replica).await;
                if engine.is_some_and(|engine| matches!(*engine.role().borrow(), Role::Leader { .. })) {
                    return Some(replica);
                }
            }
            sleep(GLANCE).await;
        }
        None
    }

    pub(crate) async fn leader(&mut self) -> u64 {
        self.leader_within(LONG).await.expect("somebody leads")
    }

    /// Sends messages of this size, each until somebody takes it.
    pub(crate) async fn send(&mut self, count: usize, size: usize) {
        for _ in 0..count {
            self.sent += 1;
            let end = Instant::now() + LONG;
            while let Err(error) = self.try_send(size).await {
                assert!(Instant::now() < end, "nobody takes a message: {error}");
                sleep(GLANCE).await;
            }
        }
    }

    /// Sends messages to the leader at once, and all are taken.
    pub(crate) async fn send_at_once(&mut self, count: u64, size: usize) {
        let leader = self.leader().await;
        let engine = self.open(leader).await;
        let sends = (1..=count).map(|nth| engine.append(vec![append(self.sent + nth, size)]));
        let sent = timeout(LONG, join_all(sends)).await.expect("they are answered");
        assert!(sent.iter().all(Result::is_ok), "{sent:?}");
        self.sent += count;
    }

    async fn try_send(&mut self, size: usize) -> Result<(), StoreError> {
        let leader = self.leader().await;
        let engine = self.open(leader).await;
        let sent = engine.append(vec![append(self.sent, size)]);
        timeout(LONG, sent).await.unwrap_or(Err(StoreError::Timeout { waited: LONG })).map(drop)
    }

    /// How many messages there are, as the leader says.
    pub(crate) async fn messages(&mut self) -> u64 {
        let leader = self.leader().await;
        let status = self.open(leader).await.topic_status(TopicId(1)).await.expect("the leader answers");
        status.iter().map(|queue| queue.max.0 - queue.min.0).sum()
    }

    /// How many messages were taken.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Waits until all replicas that run hold the same.
    pub(crate) async fn agree(&mut self) {
        let end = Instant::now() + LONG;
        loop {
            let mut dumps: Vec<Dump> = Vec::new();
            for replica in self.running() {
                if let Some(engine) = self.engine(replica).await {
                    dumps.push(engine.dump().await.expect("a replica tells what it holds"));
                }
            }
            let same = dumps.iter().all(|dump| *dump == dumps[0]);
            if same && dumps.len() == self.running().len() {
                return;
            }
            let applied: Vec<_> = dumps.iter().map(|dump| dump.applied).collect();
            assert!(Instant::now() < end, "they do not agree: {applied:?}");
            sleep(GLANCE).await;
        }
    }

    /// What the leader says of an exchange.
    pub(crate) async fn reached(&mut self) -> Option<Reached> {
        let leader = self.leader().await;
        *self.open(leader).await.reached().borrow()
    }

    fn running(&self) -> BTreeSet<u64> {
        self.machines.iter().filter(|(_, machine)| machine.process.is_some()).map(|(replica, _)| *replica).collect()
    }
}

impl Machine {
    fn new(seed: u64, seating: Seating) -> Machine {
        let (disk, seating) = (SimDisk::new(seed), watch::Sender::new(seating));
        Machine { disk, views: MemoryViewStore::default(), seating, process: None }
    }
}

/// A message of this size to send, the same one under the same number.
pub(crate) fn append(sequence: u64, size: usize) -> Append {
    let request = RequestId { proxy_incarnation: 1, sequence };
    let message = StoredMessage { body_part: Bytes::from(vec![7; size]), properties_part: Bytes::new() };
    Append {
        topic: topic(),
        queue: QueueId(0),
        message,
        request,
        due: None,
        half: None,
        lite: None,
        indexed: true,
        epoch: 0,
    }
}

fn topic() -> TopicRef {
    TopicRef { id: TopicId(1), name: Topic::parse("", "orders").expect("a good name"), queues: 4 }
}
