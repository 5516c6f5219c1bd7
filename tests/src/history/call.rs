//! The facts of a history: calls of clients, and what happened to the system meanwhile.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Name of a topic or a consumer group.
pub type Name = Arc<str>;

/// The test's own number of a message, written into its payload.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MessageId(pub u64);

impl MessageId {
    /// The message group that tests send the message in; 0 is none.
    pub fn message_group(self) -> u64 {
        self.0 % 4
    }
}

/// The receipt handle of one delivery, or a digest of it: equal handles are one delivery.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Handle(pub u64);

/// A point in the history: its place among all starts and ends, and the time since the history began.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Moment {
    pub order: u64,
    pub at: Duration,
}

/// From the start of a call to its end.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct Span {
    pub start: Moment,
    pub end: Moment,
}

/// What the client knows about the fate of its call.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    Ok,
    /// The system said that it did not happen.
    Failed,
    /// No answer: it happened, or it will, or it never does.
    Indeterminate,
}

/// Where a group is to go on.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum ResetTo {
    /// At the first message that each queue holds: everything comes again.
    Earliest,
    /// Behind the last one: nothing that was sent before comes.
    Latest,
}

/// What a client knows of the end of a transaction that it asked for.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum EndAnswer {
    /// It ended so.
    Done,
    /// It had ended otherwise.
    Otherwise,
    /// The system does not know of it.
    Unknown,
    /// No answer.
    None,
}

/// Where a message is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Place {
    pub topic: Name,
    pub queue: u32,
    pub offset: u64,
}

/// One message as a receive got it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Delivered {
    pub message: MessageId,
    pub place: Place,
    /// Of body, keys, tag and properties; compared with that of the send.
    pub digest: u64,
    pub attempt: u32,
    pub handle: Handle,
    /// How long the message is hidden from the rest of its group.
    pub invisible: Duration,
}

/// One call, or one thing that happened to the system.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Call {
    pub span: Span,
    pub what: What,
}

/// What was asked, and what came of it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum What {
    /// One message of a send; messages of one batch share their span. The place is known when the outcome is Ok.
    Send {
        message: MessageId,
        topic: Name,
        digest: u64,
        place: Option<Place>,
        outcome: Outcome,
    },
    /// The filter of a group refuses this message, whenever it is sent.
    Refused {
        group: Name,
        message: MessageId,
    },
    /// A receive, with the filter that its group always has. One that broke off may have deliveries and an indeterminate outcome.
    Receive {
        group: Name,
        topic: Name,
        attempt_id: Option<u64>,
        invisible: Duration,
        deliveries: Vec<Delivered>,
        outcome: Outcome,
    },
    Ack {
        group: Name,
        message: MessageId,
        handle: Handle,
        outcome: Outcome,
    },
    /// Gives the message up: it is to be a dead letter.
    GiveUp {
        group: Name,
        message: MessageId,
        handle: Handle,
        outcome: Outcome,
    },
    /// All dead letters of a group, when everything is over; some are missing when retention took them.
    DeadLetters {
        group: Name,
        topic: Name,
        max_attempts: u32,
        letters: Vec<(MessageId, u64)>,
        complete: bool,
    },
    /// Moves the end of the delivery's lease to `after` from now.
    Change {
        group: Name,
        message: MessageId,
        handle: Handle,
        after: Duration,
        outcome: Outcome,
    },
    /// Gives the delivery back, uncounted; nobody answers.
    Release {
        group: Name,
        message: MessageId,
        handle: Handle,
    },
    /// The send of this message asked that nobody sees it before `due`, by a clock that is right.
    Delayed {
        message: MessageId,
        due: Duration,
    },
    /// Takes a delayed message back. `Failed`: the system said that it is too late.
    Recall {
        message: MessageId,
        outcome: Outcome,
    },
    /// The message of this send is a half one: nobody sees it before its transaction is committed.
    Half {
        message: MessageId,
    },
    /// Ends the transaction of a half message.
    End {
        message: MessageId,
        commit: bool,
        answer: EndAnswer,
    },
    /// Lets a group go on elsewhere, in all queues of a topic.
    Reset {
        group: Name,
        topic: Name,
        to: ResetTo,
        outcome: Outcome,
    },
    /// The group is an ordered one, from the beginning.
    InOrder {
        group: Name,
    },
    /// What the system says about a group's progress on one queue.
    Progress {
        group: Name,
        topic: Name,
        queue: u32,
        floor: u64,
        cursor: u64,
    },
    /// A group that reads by offset says how far it came.
    Commit {
        group: Name,
        topic: Name,
        queue: u32,
        offset: u64,
        outcome: Outcome,
    },
    /// What the system says that such a group said.
    Committed {
        group: Name,
        topic: Name,
        queue: u32,
        offset: Option<u64>,
    },
    /// What the system says when everything is over: it holds no message of this queue below `min` any more. It may
    /// have dropped messages of this age that no consumer held; `None`: any.
    Trimmed {
        topic: Name,
        queue: u32,
        min: u64,
        kept: Option<Duration>,
    },
    /// The system was down: from its end, by power cut or kill or in peace, until it was back. A change of leadership is
    /// one, too.
    Down,
    /// From here on nothing disturbs the system any more.
    Healed,
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "message {}", self.0)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.topic, self.queue, self.offset)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:?}..{:?}]", self.start.at, self.end.at)
    }
}
