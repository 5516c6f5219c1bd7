//! One run: the lives and deaths of one store, by seed, and what its clients saw.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use apogee_engine::{AnswerRule, Engine, EngineParts, OpenError, SEGMENT_MIN, Settings};
use apogee_host::{Disk, Exit, SimDisk, Tasks};
use apogee_tests::clients::payload::GROUPS;
use apogee_tests::clients::{Consumer, Dice, Patience, Producer, Receive, Site, Sizes, Tempo};
use apogee_tests::history::{Call, History, Moment, Rules, Violation, What, check};
use apogee_tests::machine::ProcessDisk;
use futures::future::{join, join_all};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::clock::{CLOCK_BOUND, SimClock};
use crate::direct::Direct;

/// A life that does not end by then hangs.
const LIFE_MAX: Duration = Duration::from_secs(3600);
/// Longest stop of the engine's tasks.
const CLOSE_MAX: Duration = Duration::from_secs(10);
/// Longer than any lease that a client asks for, and then some.
const DRAIN: Duration = Duration::from_secs(30);
/// The shortest there is.
const WINDOW: Duration = Duration::from_secs(10);
/// Longest time of an operation of a slow disk, in milliseconds.
const SLOW: u64 = 20;

/// Clients that pause less than `pace` milliseconds.
pub(crate) fn at_pace(pace: u64) -> Tempo {
    Tempo { pace, window: WINDOW, glance: Duration::ZERO }
}

/// The build under test, and the luck it has.
#[derive(Copy, Clone)]
pub(crate) struct Plan<R> {
    pub(crate) seed: u64,
    pub(crate) rule: R,
    pub(crate) sync_lies: bool,
    /// Lives before the drain.
    pub(crate) lives: u64,
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) violations: Vec<Violation>,
    /// Power cuts in the midst of an operation of the disk.
    pub(crate) cuts: u64,
    pub(crate) calls: Vec<Call>,
    /// Messages that some group has not settled after the drain, as the engine counts.
    pub(crate) unsettled: u64,
    /// Whether the log went on into a second segment.
    pub(crate) rolled: bool,
}

/// How a life ends.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Ending {
    PowerCut,
    /// kill -9; the page cache survives.
    Kill,
    /// A sync fails, and the process ends by itself.
    SyncFails,
    /// SIGTERM.
    Stop,
}

struct Run<R> {
    plan: Plan<R>,
    dice: Dice,
    disk: SimDisk,
    clock: Arc<SimClock>,
    history: History,
    settings: Settings,
    slowness: u64,
    cuts: u64,
}

/// Runs one seed to its end, on paused time of its own.
///
/// # Errors
/// When the store does not open, does not stop, or stops for another reason than its disk.
pub(crate) fn run<R: AnswerRule + Copy>(plan: Plan<R>) -> anyhow::Result<Verdict> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(async {
        // Timers fire at whole milliseconds of the runtime's own beginning: begin at one of them.
        sleep(Duration::from_millis(1)).await;
        Run::new(plan).run().await
    })
}

impl<R: AnswerRule + Copy> Run<R> {
    fn new(plan: Plan<R>) -> Self {
        let dice = Dice::new(plan.seed, 0);
        let mut settings = Settings { segment_bytes: SEGMENT_MIN, ..Settings::default() };
        if dice.one_in(2) {
            settings.tail_bytes = 4 << 10;
        }
        if dice.one_in(4) {
            settings.in_flight_max = 12;
        }
        let (disk, slowness) = (SimDisk::new(plan.seed), if dice.one_in(4) { 0 } else { SLOW });
        disk.set_sync_lies(plan.sync_lies);
        let clock = Arc::new(SimClock::new());
        Self { plan, dice, disk, clock, history: History::new(), settings, slowness, cuts: 0 }
    }

    async fn run(mut self) -> anyhow::Result<Verdict> {
        let dice = |player| Dice::new(self.plan.seed, player);
        let sizes = if self.dice.one_in(8) { Sizes::Heavy } else { Sizes::Mixed };
        let mut producers: Vec<_> = (1..=3).map(|number| Producer::new(dice(number), number, sizes)).collect();
        let mut consumers: Vec<_> = (11..=14)
            .map(|number| Consumer::new(dice(number), 1 + u32::try_from(number).expect("small") % GROUPS, number))
            .collect();
        let mut down = self.history.start();
        for _ in 0..self.plan.lives {
            down = self.life(down, &mut producers, &mut consumers).await?;
        }
        let unsettled = self.drain(down).await?;
        let calls = self.history.calls();
        let rules = Rules { clock_bound: CLOCK_BOUND, call_max: None, late_effect: Duration::ZERO };
        let violations = check(&calls, rules);
        let rolled = self.disk.list("store/log").await?.len() > 2;
        Ok(Verdict { violations, cuts: self.cuts, calls, unsettled, rolled })
    }

    /// From the start of the process to its end. Returns when that was.
    async fn life(
        &mut self,
        down: Moment,
        producers: &mut [Producer],
        consumers: &mut [Consumer],
    ) -> anyhow::Result<Moment> {
        let process = ProcessDisk::new(self.disk.clone(), Dice::new(self.plan.seed, down.order << 8), self.slowness);
        let ending = self.ending();
        // Some lives end while the store recovers.
        let operations = if self.dice.one_in(5) { self.dice.below(6) } else { self.dice.below(80) };
        match ending {
            Ending::PowerCut => self.disk.cut_at_op(operations),
            Ending::Kill => process.kill_at_op(operations),
            Ending::SyncFails => self.disk.fail_sync_after(operations / 2),
            Ending::Stop => {}
        }
        if !self.dice.one_in(3) {
            sleep(self.dice.millis(6000)).await;
        }
        self.clock.jump(&self.dice);
        let tasks = Tasks::new();
        let disk = Arc::new(process);
        match self.open(Arc::clone(&disk), &tasks).await {
            Ok(engine) => {
                self.history.end(down, What::Down);
                self.live(Direct { engine, disk }, &tasks, ending, producers, consumers).await?;
            }
            Err(OpenError::Disk { .. }) if ending != Ending::Stop => self.history.end(down, What::Down),
            Err(refused) => return Err(refused.into()),
        }
        let late = tasks.close(CLOSE_MAX).await;
        ensure!(late.is_empty(), "{late:?} did not stop");
        let down = self.history.start();
        self.after(ending);
        Ok(down)
    }

    fn ending(&self) -> Ending {
        match self.dice.below(16) {
            0 | 1 => Ending::Kill,
            2 => Ending::SyncFails,
            3 => Ending::Stop,
            _ => Ending::PowerCut,
        }
    }

    async fn live(
        &self,
        door: Direct,
        tasks: &Tasks,
        ending: Ending,
        producers: &mut [Producer],
        consumers: &mut [Consumer],
    ) -> anyhow::Result<()> {
        let pace = [5, 100, 1500][usize::try_from(self.dice.below(3))?];
        let site = self.site(door, pace);
        site.tell_order();
        let producing = join_all(producers.iter_mut().map(|producer| producer.run(&site)));
        let consuming = join_all(consumers.iter_mut().map(|consumer| consumer.run(&site)));
        let ends = async {
            let ended = if ending == Ending::Stop {
                sleep(self.dice.millis(pace * 100)).await;
                let late = tasks.close(CLOSE_MAX).await;
                if late.is_empty() { Ok(()) } else { Err(anyhow::anyhow!("{late:?} did not stop")) }
            } else {
                died_of_its_disk(tasks).await
            };
            site.over.cancel();
            ended
        };
        join(join(producing, consuming), ends).await.1
    }

    fn site(&self, door: Direct, pace: u64) -> Site<Direct> {
        let (history, dead_after, began) = (self.history.clone(), None, None);
        let in_order = Dice::new(self.plan.seed, 501).one_in(2);
        Site {
            door,
            history,
            over: CancellationToken::new(),
            tempo: at_pace(pace),
            dead_after,
            began,
            in_order,
            priority: None,
        }
    }

    /// What the end of the process means for the machine.
    fn after(&mut self, ending: Ending) {
        self.cuts += u64::from(ending == Ending::PowerCut);
        if ending == Ending::PowerCut || self.dice.one_in(2) {
            self.disk = self.disk.power_cut();
            self.disk.set_sync_lies(self.plan.sync_lies);
        }
    }

    /// A last life without accidents: everything is received and acked. Says how many messages are not settled then.
    async fn drain(&mut self, down: Moment) -> anyhow::Result<u64> {
        let disk = Arc::new(ProcessDisk::new(self.disk.clone(), Dice::new(self.plan.seed, 99), 0));
        let tasks = Tasks::new();
        let engine = self.open(Arc::clone(&disk), &tasks).await?;
        self.history.end(down, What::Down);
        let site = self.site(Direct { engine, disk }, 0);
        site.tell_order();
        let begun = Instant::now();
        while self.round(&site).await? > 0 || begun.elapsed() < DRAIN {
            sleep(Duration::from_millis(250)).await;
            ensure!(begun.elapsed() < LIFE_MAX, "the drain does not come to an end");
        }
        let mut unsettled = 0;
        for group in 1..=GROUPS {
            let progress = site.progress(group).await.ok().flatten();
            unsettled += progress.context("the engine stopped in the drain")?;
        }
        let late = tasks.close(CLOSE_MAX).await;
        ensure!(late.is_empty(), "{late:?} did not stop");
        Ok(unsettled)
    }

    /// Receives and acks until nothing comes; says how many messages came.
    async fn round(&self, site: &Site<Direct>) -> anyhow::Result<usize> {
        let mut came = 0;
        for group in 1..=GROUPS {
            loop {
                let receive = Receive { group, batch: 32, attempt_id: None, invisible: WINDOW };
                let messages = site.receive(receive, Patience::Waits).await.ok().context("stopped in the drain")?;
                if messages.is_empty() {
                    break;
                }
                came += messages.len();
                for delivery in &messages {
                    site.ack(delivery).await.ok().context("stopped in the drain")?;
                }
            }
        }
        Ok(came)
    }

    async fn open(&self, disk: Arc<ProcessDisk>, tasks: &Tasks) -> Result<Engine, OpenError> {
        let meter = opentelemetry::global::meter("test");
        let parts = EngineParts { disk, clock: self.clock.clone(), tasks: tasks.clone(), meter };
        Engine::open_with_rule(parts, self.settings, self.plan.rule).await
    }
}

/// Waits for the end of the process, which must be the log writer's, with the exit code of a failed disk.
async fn died_of_its_disk(tasks: &Tasks) -> anyhow::Result<()> {
    let failure = timeout(LIFE_MAX, tasks.failed()).await.context("the accident never came")?;
    if (failure.task, failure.stop.exit) != ("log-writer", Exit::Io) {
        bail!("the engine ended otherwise: {failure}");
    }
    Ok(())
}
