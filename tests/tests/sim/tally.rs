//! How often things happened, so that a kind of bad weather that stays away is noticed.

use std::collections::BTreeMap;
use std::fmt;

/// What can happen to a cluster; each is counted when it has an effect.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Happening {
    /// kill -9 of a process between two operations of its disk.
    Kill,
    /// The same in the midst of one.
    KillInOperation,
    PowerLoss,
    /// A machine got an empty disk.
    LostDisk,
    /// The live views are gone; they come from a base and the log.
    LostViews,
    /// SIGTERM, and the process ended in peace.
    CleanStop,
    /// A leader was asked to let another replica lead.
    HandOver,
    /// All machines lose their power at once.
    Blackout,
    /// Nobody hears a machine, and it hears nobody.
    Partition,
    /// Some do not hear somebody whom they reach.
    OneWayPartition,
    /// A proxy does not reach a machine, or hears no answer.
    ProxyCutOff,
    Pause,
    ClockJump,
    SlowDisk,
    /// A sync failed, and its process ended.
    FailedSync,
    /// A machine took the lead.
    NewLeader,
    /// A segment of a log was full.
    FullSegment,
    /// A queue lost messages to retention.
    TrimmedQueue,
    /// The oldest segment of a log is gone.
    ShortenedLog,
    /// Somebody let a group go on elsewhere.
    OffsetReset,
    /// A reader committed how far it came.
    OffsetCommit,
    /// A message was received that came later than it was sent.
    DelayedMessage,
    /// A message was received from a lite topic.
    LiteMessage,
    /// A delayed message was taken back.
    Recall,
    /// A recall came too late.
    LateRecall,
    /// A message was delivered often enough, or given up.
    DeadLetter,
    /// A transaction was committed,
    Commit,
    /// or rolled back,
    Rollback,
    /// or had ended otherwise.
    OtherEnd,
    /// A replica took the place of another,
    Move,
    /// or was to, until somebody thought better of it.
    MoveGivenUp,
}

/// Counts of what happened.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Tally(BTreeMap<Happening, u64>);

impl Happening {
    pub(crate) const ALL: [Happening; 31] = [
        Happening::Kill,
        Happening::KillInOperation,
        Happening::PowerLoss,
        Happening::LostDisk,
        Happening::LostViews,
        Happening::CleanStop,
        Happening::HandOver,
        Happening::Blackout,
        Happening::Partition,
        Happening::OneWayPartition,
        Happening::ProxyCutOff,
        Happening::Pause,
        Happening::ClockJump,
        Happening::SlowDisk,
        Happening::FailedSync,
        Happening::NewLeader,
        Happening::FullSegment,
        Happening::TrimmedQueue,
        Happening::ShortenedLog,
        Happening::OffsetReset,
        Happening::OffsetCommit,
        Happening::DelayedMessage,
        Happening::LiteMessage,
        Happening::Recall,
        Happening::LateRecall,
        Happening::DeadLetter,
        Happening::Commit,
        Happening::Rollback,
        Happening::OtherEnd,
        Happening::Move,
        Happening::MoveGivenUp,
    ];
}

impl Tally {
    pub(crate) fn count(&mut self, happening: Happening) {
        self.add(happening, 1);
    }

    pub(crate) fn add(&mut self, happening: Happening, times: u64) {
        *self.0.entry(happening).or_default() += times;
    }

    pub(crate) fn add_all(&mut self, other: &Tally) {
        other.0.iter().for_each(|(happening, times)| self.add(*happening, *times));
    }

    /// What never happened.
    pub(crate) fn missing(&self) -> Vec<Happening> {
        Happening::ALL.into_iter().filter(|happening| !self.0.contains_key(happening)).collect()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told: Vec<_> = self.0.iter().map(|(happening, times)| format!("{happening:?} {times}")).collect();
        f.write_str(&told.join(", "))
    }
}
