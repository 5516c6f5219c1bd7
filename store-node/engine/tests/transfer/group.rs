//! A replica group in one process: simulated disks, views in memory, frames by function calls.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use apogee_engine::{
    Answers, Dump, Ear, Engine, EngineParts, Members, MemoryViewStore, OpenError, Peers, ReachedHow, ReplicaParts,
    RocksSettings, RocksViewStore, Role, SEGMENT_MIN, Seating, Settings, Unreachable, ViewStore,
};
use apogee_host::{Disk, RealClock, RealDisk, SeededEntropy, SimDisk, Tasks};
use apogee_model::store::{Append, GroupRef, LeaseTerms, Pop, RequestId, TopicRef};
use apogee_model::{
    BlockIndex, ClientId, ConsumerGroup, DeliveryOrder, Filter, GroupId, InvisibleDuration, QueueId, ReplicaGroupId,
    ReplicaId, StoredMessage, Topic, TopicId,
};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::{BoxFuture, join_all};
use futures::stream::{self, BoxStream};
use tempfile::TempDir;
use tokio::sync::watch;

/// Virtual time; far more than anything takes.
pub(crate) const SOON: Duration = Duration::from_secs(10);
/// After a failure.
const PAUSE: Duration = Duration::from_millis(20);
/// How often a test looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A few of these fill a segment.
pub(crate) const BODY: usize = 3 << 20;

/// What happens to a frame on its way, by a test's wish.
pub(crate) type Meddle = Arc<dyn Fn(ReplicaId, ReplicaId, &Bytes) -> Passage + Send + Sync>;

/// See [`Meddle`].
pub(crate) enum Passage {
    Pass,
    /// It never arrives.
    Lost,
    /// It arrives, the answer does not.
    AnswerLost,
    /// Another one arrives in its place.
    Changed(Bytes),
}

/// Who can be reached. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Net(Arc<Mutex<Reached>>);

#[derive(Default)]
struct Reached {
    ears: BTreeMap<ReplicaId, Ear>,
    meddle: Option<Meddle>,
}

struct Wire {
    from: ReplicaId,
    net: Net,
}

/// One replica: what survives its processes, and the one of the moment.
pub(crate) struct Site {
    pub(crate) me: ReplicaId,
    pub(crate) disk: SimDisk,
    pub(crate) views: MemoryViewStore,
    /// Real files in place of those two.
    pub(crate) folder: Option<TempDir>,
    /// As namesrv said it last; all share it.
    seating: watch::Sender<Seating>,
    life: Option<Life>,
    starts: u64,
}

struct Life {
    engine: Engine,
    tasks: Tasks,
    views: Arc<dyn ViewStore>,
}

pub(crate) struct Group {
    pub(crate) net: Net,
    pub(crate) sites: Vec<Site>,
    pub(crate) seating: watch::Sender<Seating>,
    sent: u64,
}

impl Net {
    fn lock(&self) -> MutexGuard<'_, Reached> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn meddle(&self, meddle: Option<Meddle>) {
        self.lock().meddle = meddle;
    }

    pub(crate) fn ear(&self, of: ReplicaId) -> Ear {
        self.lock().ears[&of].clone()
    }

    fn look(&self, from: ReplicaId, to: ReplicaId, frame: &Bytes) -> Result<(Ear, Passage), Unreachable> {
        let reached = self.lock();
        let ear = reached.ears.get(&to).cloned().ok_or_else(|| away(to, "nobody is there"))?;
        let passage = reached.meddle.as_ref().map_or(Passage::Pass, |meddle| meddle(from, to, frame));
        Ok((ear, passage))
    }
}

/// Whoever gets no answer and asks again at once shall not spin.
fn patient(answers: BoxStream<'static, Bytes>) -> Answers {
    let next = |(mut answers, heard): (BoxStream<'static, Bytes>, bool)| async move {
        let answer = answers.next().await;
        if answer.is_none() && !heard {
            tokio::time::sleep(PAUSE).await;
        }
        answer.map(|answer| (Ok(answer), (answers, true)))
    };
    stream::unfold((answers, false), next).boxed()
}

fn away(to: ReplicaId, why: &str) -> Unreachable {
    Unreachable { to, why: why.to_owned() }
}

impl Peers for Wire {
    fn call(&self, to: ReplicaId, frame: Bytes) -> BoxFuture<'static, Result<Bytes, Unreachable>> {
        let found = self.net.look(self.from, to, &frame);
        Box::pin(async move {
            let (ear, passage) = found?;
            let (frame, answered) = match passage {
                Passage::Pass => (frame, true),
                Passage::AnswerLost => (frame, false),
                Passage::Changed(other) => (other, true),
                Passage::Lost => return Err(away(to, "the frame was lost")),
            };
            let answer = tokio::time::timeout(Duration::from_secs(5), ear.answer(frame)).await;
            let answer = answer.map_err(|_| away(to, "no answer"))?.map_err(|error| away(to, &error.to_string()))?;
            if answered { Ok(answer) } else { Err(away(to, "the answer was lost")) }
        })
    }

    fn pipeline(&self, to: ReplicaId, frames: BoxStream<'static, Bytes>) -> Answers {
        match self.net.look(self.from, to, &Bytes::new()) {
            Ok((ear, _)) => patient(ear.answer_pipeline(frames)),
            Err(unreachable) => stream::once(async move {
                tokio::time::sleep(PAUSE).await;
                Err(unreachable)
            })
            .boxed(),
        }
    }
}

impl Site {
    pub(crate) fn engine(&self) -> &Engine {
        &self.life.as_ref().expect("it runs").engine
    }

    pub(crate) fn runs(&self) -> bool {
        self.life.is_some()
    }

    /// Starts a process on what the earlier ones left.
    pub(crate) async fn start(&mut self, net: &Net) -> Result<(), OpenError> {
        self.starts += 1;
        let (tasks, seating) = (Tasks::new(), self.seating.subscribe());
        let (disk, views): (Arc<dyn Disk>, Arc<dyn ViewStore>) = match &self.folder {
            None => (Arc::new(self.disk.clone()), Arc::new(self.views.clone())),
            Some(folder) => {
                let views = RocksViewStore::new(folder.path(), RocksSettings { views_bytes: 8 << 20 });
                // Others may still hold an answer of the process before.
                let disk = until(|| RealDisk::open(folder.path()).ok()).await;
                (Arc::new(disk), Arc::new(views.expect("there are threads")))
            }
        };
        let engine = EngineParts {
            disk,
            clock: Arc::new(RealClock),
            tasks: tasks.clone(),
            meter: opentelemetry::global::meter("test"),
        };
        let ear = Ear::default();
        net.lock().ears.insert(self.me, ear.clone());
        let parts = ReplicaParts {
            engine,
            views: Arc::clone(&views),
            peers: Arc::new(Wire { from: self.me, net: net.clone() }),
            entropy: Arc::new(SeededEntropy::new(self.me.0 << 32 | self.starts)),
            ear,
        };
        let settings = Settings {
            segment_bytes: SEGMENT_MIN,
            tail_bytes: 1 << 20,
            views_batch_every: Duration::from_millis(50),
            views_flush_every: Duration::from_millis(200),
            ..Settings::default()
        };
        let members = Members { me: self.me, group: ReplicaGroupId(0), seating, cluster_id: 7 };
        let opened = Engine::open_replica(parts, members, settings).await;
        match opened {
            Ok(engine) => {
                self.life = Some(Life { engine, tasks, views });
                Ok(())
            }
            Err(error) => {
                net.lock().ears.remove(&self.me);
                tasks.close(SOON).await;
                Err(error)
            }
        }
    }

    /// SIGTERM, and the end of the process.
    pub(crate) async fn stop(&mut self, net: &Net) {
        if let Some(Life { engine, tasks, views }) = self.life.take() {
            net.lock().ears.remove(&self.me);
            drop((engine, views));
            assert_eq!(tasks.close(SOON).await, Vec::<&str>::new());
        }
    }

    /// The power fails, or has failed in the midst of an operation of the disk.
    pub(crate) async fn lose_power(&mut self, net: &Net) {
        self.disk = self.disk.power_cut();
        if let Some(Life { engine, tasks, .. }) = self.life.take() {
            net.lock().ears.remove(&self.me);
            drop(engine);
            tasks.close(SOON).await;
        }
        self.views.crash();
    }

    /// Waits until the replica has to begin again, and lets it.
    pub(crate) async fn begins_again(&mut self, net: &Net) -> Result<(), OpenError> {
        let engine = self.engine().clone();
        tokio::time::timeout(SOON, engine.again()).await.expect("it begins again");
        drop(engine);
        self.stop(net).await;
        self.start(net).await
    }

    /// Waits until the disk does nothing any more, which not everybody notices who still runs.
    async fn loses_its_disk(&self) {
        while self.disk.list("store").await.is_ok() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until its disk fails, or until it has begun again. Says whether the disk failed, also when it opened.
    pub(crate) async fn fails_or_begins_again(&mut self, net: &Net) -> bool {
        let Life { engine, tasks, .. } = self.life.as_ref().expect("it runs");
        let (engine, tasks) = (engine.clone(), tasks.clone());
        let failed = tokio::select! {
            biased;
            _ = tasks.failed() => true,
            _ = engine.again() => false,
            () = self.loses_its_disk() => true,
            () = tokio::time::sleep(6 * SOON) => panic!("neither happened"),
        };
        drop((engine, tasks));
        failed || self.begins_again(net).await.is_err()
    }

    /// Whether it set a damaged store aside.
    pub(crate) async fn was_damaged(&self) -> bool {
        !self.disk.list("damaged/store").await.expect("a disk that works").is_empty()
    }

    pub(crate) async fn dump(&self) -> Dump {
        self.engine().dump().await.expect("a replica that runs says what it holds")
    }
}

impl Group {
    pub(crate) async fn start() -> Self {
        Self::start_on(|| None).await
    }

    /// On files of this machine.
    pub(crate) async fn start_on_files() -> Self {
        Self::start_on(|| Some(tempfile::tempdir().expect("a temporary folder"))).await
    }

    /// With a replica that is too far behind, and which.
    pub(crate) async fn behind() -> (Self, usize) {
        let mut group = Self::start().await;
        group.send(1).await;
        let late = group.stop_follower().await;
        group.send(6).await;
        group.shorten(5).await;
        (group, late)
    }

    async fn start_on(folder: impl Fn() -> Option<TempDir>) -> Self {
        let seating = watch::Sender::new(Seating::of((1..=3).map(ReplicaId)));
        let mut group = Self { net: Net::default(), sites: Vec::new(), seating, sent: 0 };
        for me in 1..=3 {
            group.add(me, folder());
        }
        // They found the group together.
        let starts = group.sites.iter_mut().map(|site| site.start(&group.net));
        for started in join_all(starts).await {
            started.expect("an empty disk opens");
        }
        group
    }

    /// One more replica with an empty disk, that does not run.
    pub(crate) fn add(&mut self, me: u64, folder: Option<TempDir>) {
        self.sites.push(Site {
            folder,
            me: ReplicaId(me),
            disk: SimDisk::new(me),
            views: MemoryViewStore::default(),
            seating: self.seating.clone(),
            life: None,
            starts: 0,
        });
    }

    /// Waits until the leader says so of the exchange.
    pub(crate) async fn reaches(&self, how: ReachedHow) {
        let leader = self.leader().await;
        let mut reached = self.sites[leader].engine().reached();
        let reaches = reached.wait_for(|reached| reached.is_some_and(|reached| reached.how == how));
        tokio::time::timeout(SOON, reaches).await.expect("it comes to that").expect("the leader lives");
    }

    /// Waits for somebody to lead.
    pub(crate) async fn leader(&self) -> usize {
        let leads = |site: &Site| site.runs() && matches!(*site.engine().role().borrow(), Role::Leader { .. });
        until(|| self.sites.iter().position(leads)).await
    }

    /// Sends messages of three MiB, in blocks of their own.
    pub(crate) async fn send(&mut self, count: usize) {
        let engine = self.sites[self.leader().await].engine().clone();
        for _ in 0..count {
            self.sent += 1;
            send(&engine, self.sent).await;
        }
    }

    /// How many messages were sent.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Waits until this one has what the leader has. Says how often it began again for that.
    pub(crate) async fn catches_up(&mut self, site: usize) -> u32 {
        let (net, mut lives, deadline) = (self.net.clone(), 0, tokio::time::Instant::now() + 3 * SOON);
        while self.sites[site].dump().await.applied < self.sites[self.leader().await].dump().await.applied {
            assert!(tokio::time::Instant::now() < deadline, "it catches up");
            let engine = self.sites[site].engine().clone();
            if tokio::time::timeout(LOOK_EVERY, engine.again()).await.is_ok() {
                drop(engine);
                self.sites[site].begins_again(&net).await.expect("it starts");
                lives += 1;
            }
        }
        lives
    }

    /// Stops one of the followers. Returns which.
    pub(crate) async fn stop_follower(&mut self) -> usize {
        self.agree().await;
        let leader = self.leader().await;
        let follower = (0..3).rev().find(|site| *site != leader).expect("there are two");
        self.sites[follower].stop(&self.net).await;
        follower
    }

    /// Lets this one lead, which has the greater number of the two that do not.
    pub(crate) async fn let_lead(&self, site: usize) {
        self.agree().await;
        loop {
            let leader = self.leader().await;
            if leader == site {
                return;
            }
            self.sites[leader].engine().hand_over(SOON).await.expect("somebody takes over");
        }
    }

    /// The leader takes a base, and gives up the blocks up to `upto`, counted from the end when that is below 0. Returns
    /// where the base is.
    pub(crate) async fn shorten(&self, upto: i64) -> BlockIndex {
        let site = &self.sites[self.leader().await];
        let dump = site.dump().await;
        let upto = if upto < 0 { dump.applied.0.checked_add_signed(upto) } else { u64::try_from(upto).ok() };
        let upto = BlockIndex(upto.expect("a block there was"));
        site.engine().take_base();
        let deadline = tokio::time::Instant::now() + SOON;
        loop {
            assert!(tokio::time::Instant::now() < deadline, "a base is taken");
            let views = &site.life.as_ref().expect("it runs").views;
            let bases = views.bases().await.expect("there are bases");
            if bases.last().is_some_and(|base| base.index() >= dump.applied) {
                break;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        site.engine().let_go(upto);
        loop {
            assert!(tokio::time::Instant::now() < deadline, "blocks are given up");
            let dump = site.dump().await;
            if dump.log.first().is_none_or(|(index, _, _)| *index > upto.0) {
                return dump.applied;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until all that run have applied the same, and compares them.
    pub(crate) async fn agree(&self) {
        let ends = async {
            loop {
                let mut dumps = Vec::new();
                for site in self.sites.iter().filter(|site| site.runs()) {
                    dumps.push(site.dump().await);
                }
                if dumps.iter().all(|dump| dump.applied == dumps[0].applied) {
                    return dumps;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let dumps = tokio::time::timeout(SOON, ends).await.expect("all come to the same block");
        for dump in &dumps[1..] {
            assert_eq!(dump.views, dumps[0].views);
            let theirs: BTreeMap<_, _> =
                dumps[0].log.iter().map(|(index, lsn, digest)| (index, (lsn, digest))).collect();
            let both = dump.log.iter().filter(|(index, ..)| theirs.contains_key(index));
            assert!(both.clone().count() > 0, "they have blocks in common");
            for (index, lsn, digest) in both {
                assert_eq!(theirs[index], (lsn, digest), "block {index}");
            }
        }
    }

    /// What a new consumer group gets from the leader, by the numbers of the messages.
    pub(crate) async fn pop_all(&self, group: u32) -> Vec<u64> {
        let engine = self.sites[self.leader().await].engine().clone();
        let lease = LeaseTerms::Fixed(InvisibleDuration::for_receive(6 * SOON).expect("in range"));
        let name = ConsumerGroup::parse("", &format!("group-{group}")).expect("a good name");
        let mut numbers = Vec::new();
        loop {
            let pop = Pop {
                group: GroupRef { id: GroupId(group), name: name.clone() },
                topic: topic(),
                filter: Filter::default(),
                batch: 4,
                lease,
                attempt_id: None,
                client: ClientId::parse("host@1@1").expect("not blank"),
                dead_letters: None,
                order: DeliveryOrder::Concurrent,
                priority: None,
                lite: false,
            };
            let popped = engine.pop(pop).await.expect("the leader answers");
            if popped.messages.is_empty() {
                return numbers;
            }
            numbers.extend(popped.messages.iter().map(|delivery| {
                let body = String::from_utf8_lossy(&delivery.message.body_part[..20]).into_owned();
                body.split(':').next().and_then(|number| number.parse::<u64>().ok()).expect("a body of ours")
            }));
        }
    }
}

/// Sends one message.
pub(crate) async fn send(engine: &Engine, number: u64) {
    let mut body = format!("{number}:").into_bytes();
    body.resize(BODY, b'.');
    let message = StoredMessage { body_part: body.into(), properties_part: Bytes::new() };
    let request = RequestId { proxy_incarnation: 1, sequence: number };
    let append = Append {
        topic: topic(),
        queue: QueueId(0),
        message,
        request,
        due: None,
        half: None,
        lite: None,
        indexed: true,
        epoch: 0,
    };
    engine.append(vec![append]).await.expect("the leader takes it");
}

/// Asks now and then, until there is an answer.
pub(crate) async fn until<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let asks = async {
        loop {
            match ask() {
                Some(answer) => return answer,
                None => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    };
    tokio::time::timeout(SOON, asks).await.expect("it happens")
}

pub(crate) fn topic() -> TopicRef {
    TopicRef { id: TopicId(1), name: Topic::parse("", "orders").expect("a good name"), queues: 1 }
}
