//! Lite topics: cheap parts of a topic that come with their first message or subscription, and go when nobody writes.

use std::time::Duration;

use super::{GroupRef, TopicRef};
use crate::{ClientId, GroupId, QueueOffset, Timestamp, TopicId};

/// The lite topic a message is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LiteName {
    pub name: Box<str>,
    /// How long lite topics of its topic outlive their last message. `None`: for ever.
    pub expiration: Option<Duration>,
}

/// What a client of a group wants to be subscribed to, of the lite topics of one topic that are in one replica group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LiteSubscription {
    pub group: GroupRef,
    pub topic: TopicRef,
    pub client: ClientId,
    pub change: LiteChange,
    pub names: Vec<Box<str>>,
    /// Where the group goes on in lite topics that the client was not subscribed to.
    pub from: LiteStart,
    pub terms: LiteTerms,
}

/// What a group and its topic say about lite topics.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct LiteTerms {
    /// One client of the group at a time: the newest takes a lite topic over from the others.
    pub exclusive: bool,
    /// Who takes over begins at the first message.
    pub reset_on_takeover: bool,
    /// When the last one leaves, the group is back at the first message.
    pub reset_on_unsubscribe: bool,
    /// Lite topics of one client.
    pub client_max: usize,
    /// See [`LiteName::expiration`].
    pub expiration: Option<Duration>,
}

/// How subscriptions change.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum LiteChange {
    /// To these, too.
    Add,
    /// To these no more.
    Remove,
    /// To these and no others. Said again and again, it keeps the subscriptions; it takes nothing over.
    Complete,
    /// To none.
    RemoveAll,
}

/// Where a group goes on in a lite topic.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum LiteStart {
    /// Where it was; where a group begins in any topic, if it never was there.
    Last,
    Earliest,
    Latest,
    At(QueueOffset),
    /// So many messages before where it is.
    Tail(u64),
    /// At the first message that was stored then or later.
    Time(Timestamp),
}

/// What came of it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum LiteSubscribed {
    Done,
    /// Nothing was done: the client, or all of them together, would have more than this.
    TooManySubscriptions {
        max: usize,
    },
    /// Nothing was done: there are as many lite topics as there may be.
    TooManyTopics {
        max: usize,
    },
}

/// Asks for lite topics of a topic, by name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LiteList {
    pub topic: TopicId,
    /// Behind this name.
    pub after: Option<Box<str>>,
    /// Only this one.
    pub only: Option<Box<str>>,
    pub max: usize,
}

/// A lite topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LiteStatus {
    pub name: Box<str>,
    /// What it is called inside its replica group.
    pub id: TopicId,
    pub min: QueueOffset,
    pub max: QueueOffset,
    /// When it got its last message, or began.
    pub written: Timestamp,
    pub groups: Vec<LiteGroupStatus>,
}

/// A group that reads a lite topic, or has clients subscribed to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LiteGroupStatus {
    pub group: GroupId,
    /// Everything below is settled.
    pub floor: QueueOffset,
    pub in_flight: u64,
    pub clients: Vec<ClientId>,
}
