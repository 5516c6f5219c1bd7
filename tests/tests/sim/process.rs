//! A store-node's process: one engine on a runtime of its own, which runs when the simulation lets it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use apogee_engine::{
    Dump, Ear, Engine, EngineParts, Members, MemoryViewStore, OpenError, Reached as ReachedMove, ReplicaParts, Role,
    Settings,
};
use apogee_host::{Exit, SeededEntropy, TaskFailure, Tasks};
use apogee_model::store::StoreError;
use apogee_tests::machine::ProcessDisk;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::clock::{ProcessClock, Wall};
use crate::kernel::{Socket, Sockets};
use crate::lanes::{self, Desk};
use crate::rule::Rule;
use crate::wire::{self, Carrier};

/// How long a process that stops may take to give the lead away,
const HAND_OVER_MAX: Duration = Duration::from_secs(2);
/// and its tasks to end.
const CLOSE_MAX: Duration = Duration::from_secs(10);
/// Signals that wait.
const SIGNALS: usize = 4;
/// A dump that takes longer hangs.
const DUMP_MAX: Duration = Duration::from_secs(5);

/// What a process is started with.
pub(crate) struct Start {
    pub(crate) members: Members,
    pub(crate) settings: Settings,
    pub(crate) rule: Rule,
    pub(crate) disk: Arc<ProcessDisk>,
    pub(crate) views: MemoryViewStore,
    pub(crate) entropy: SeededEntropy,
    pub(crate) wall: Wall,
    /// Age of the simulation.
    pub(crate) age: Duration,
    pub(crate) sockets: Sockets,
    pub(crate) desk: Desk,
}

/// See the module. Dropping it is kill -9.
pub(crate) struct Process {
    runtime: Runtime,
    stage: Stage,
    signals: mpsc::Sender<Signal>,
    pub(crate) disk: Arc<ProcessDisk>,
}

/// What an operator can ask of a process.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Let another replica lead.
    HandOver,
    /// SIGTERM.
    Stop,
}

/// How far a process is. Clones share it.
#[derive(Clone, Default)]
struct Stage(Arc<Mutex<Reached>>);

#[derive(Default)]
struct Reached {
    engine: Option<(Engine, watch::Receiver<Role>)>,
    ended: Option<End>,
}

/// Why a process ended by itself.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// It was asked to.
    Stopped,
    /// The replica begins again.
    Again(String),
    /// Its disk failed.
    Disk(String),
    /// Anything else.
    Other(String),
}

impl Process {
    pub(crate) fn start(start: Start) -> std::io::Result<Process> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
        // Timers fire at whole milliseconds of the runtime's own beginning: begin at one of them.
        runtime.block_on(async { sleep(Duration::from_millis(1)).await });
        let (stage, disk) = (Stage::default(), Arc::clone(&start.disk));
        let (signals, inbox) = mpsc::channel(SIGNALS);
        runtime.spawn(run(start, stage.clone(), inbox));
        Ok(Process { runtime, stage, signals, disk })
    }

    /// Asks for something; one that has been asked for much already does not listen.
    pub(crate) fn signal(&self, signal: Signal) {
        let _busy = self.signals.try_send(signal);
    }

    /// Runs for this much time.
    pub(crate) fn tick(&self, time: Duration) {
        self.runtime.block_on(async { sleep(time).await });
    }

    /// It stood still for this long, and notices now.
    pub(crate) fn wake_after(&self, time: Duration) {
        self.runtime.block_on(async { tokio::time::advance(time).await });
    }

    /// What it says of its role; `None` while it opens its store.
    pub(crate) fn role(&self) -> Option<Role> {
        self.stage.reached().engine.as_ref().map(|(_, role)| *role.borrow())
    }

    /// How far it says that a replica has come that moves.
    pub(crate) fn reached(&self) -> Option<ReachedMove> {
        self.stage.reached().engine.as_ref().and_then(|(engine, _)| *engine.reached().borrow())
    }

    /// Set when it ended by itself, or was killed in an operation of its disk, whatever it makes of the error.
    pub(crate) fn ended(&self) -> Option<End> {
        let killed = || self.disk.killed().then(|| End::Disk("killed in an operation".to_owned()));
        self.stage.reached().ended.clone().or_else(killed)
    }

    /// What it holds; `None` while it opens its store, and when it is about to end.
    pub(crate) fn dump(&self) -> anyhow::Result<Option<Dump>> {
        let engine = self.stage.reached().engine.as_ref().map(|(engine, _)| engine.clone());
        let Some(engine) = engine else { return Ok(None) };
        match self.runtime.block_on(async { timeout(DUMP_MAX, engine.dump()).await })? {
            Err(StoreError::Stopped) => Ok(None),
            Err(StoreError::Unreadable { .. }) if self.disk.killed() => Ok(None),
            dump => Ok(Some(dump?)),
        }
    }
}

impl Stage {
    fn reached(&self) -> MutexGuard<'_, Reached> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn run(start: Start, stage: Stage, signals: mpsc::Receiver<Signal>) {
    let tasks = Tasks::new();
    let Start { members, settings, rule, disk, views, entropy, wall, age, sockets, desk } = start;
    let clock = Arc::new(ProcessClock::new(wall, age));
    let engine = EngineParts { disk, clock, tasks: tasks.clone(), meter: opentelemetry::global::meter("test") };
    let peers = Arc::new(Carrier(sockets.net.clone()));
    let ear = Ear::default();
    let parts = ReplicaParts { engine, views: Arc::new(views), peers, entropy: Arc::new(entropy), ear: ear.clone() };
    let (Sockets { lanes, mut peers, .. }, mut calls) = (sockets, JoinSet::new());
    let opened = tokio::select! {
        biased;
        failure = tasks.failed() => Err(End::from(failure)),
        opened = Engine::open_replica_with_rule(parts, members, settings, rule) => opened.map_err(End::from),
        () = serve_peers(&ear, &mut peers, &mut calls) => Err(closed()),
    };
    let end = match opened {
        Ok(engine) => {
            stage.reached().engine = Some((engine.clone(), engine.role()));
            tokio::select! {
                biased;
                failure = tasks.failed() => failure.into(),
                again = engine.again() => End::Again(again.why),
                () = obey(signals, engine.clone(), tasks.clone()) => End::Stopped,
                () = serve_peers(&ear, &mut peers, &mut calls) => closed(),
                () = serve(engine.clone(), lanes, desk) => closed(),
            }
        }
        Err(end) => end,
    };
    stage.reached().ended = Some(end);
}

/// Does what it is asked to; returns when it has stopped.
async fn obey(mut signals: mpsc::Receiver<Signal>, engine: Engine, tasks: Tasks) {
    let mut asked = None;
    while asked != Some(Signal::Stop) {
        asked = signals.recv().await;
        let _nobody_took_over = engine.hand_over(HAND_OVER_MAX).await;
    }
    let late = tasks.close(CLOSE_MAX).await;
    assert!(late.is_empty(), "{late:?} do not stop");
}

fn closed() -> End {
    End::Other("the sockets were closed".to_owned())
}

/// Before the store is open, and after.
async fn serve_peers(ear: &Ear, peers: &mut mpsc::Receiver<Socket>, calls: &mut JoinSet<()>) {
    loop {
        tokio::select! {
            biased;
            Some(socket) = peers.recv() => {
                calls.spawn(wire::answer(ear.clone(), socket));
            }
            Some(_ended) = calls.join_next(), if !calls.is_empty() => {}
            else => return,
        }
    }
}

async fn serve(engine: Engine, mut lanes: mpsc::Receiver<Socket>, desk: Desk) {
    let mut calls = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(socket) = lanes.recv() => {
                let (engine, desk) = (engine.clone(), desk.clone());
                calls.spawn(async move {
                    let _asker_is_gone = lanes::answer(engine, desk, socket).await;
                });
            }
            Some(_ended) = calls.join_next(), if !calls.is_empty() => {}
            else => return,
        }
    }
}

impl From<TaskFailure> for End {
    fn from(failure: TaskFailure) -> Self {
        match failure.stop.exit {
            Exit::Io => End::Disk(failure.to_string()),
            _ => End::Other(failure.to_string()),
        }
    }
}

impl From<OpenError> for End {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Disk { .. } => End::Disk(format!("{:#}", anyhow::Error::from(error))),
            _ => End::Other(format!("{:#}", anyhow::Error::from(error))),
        }
    }
}
