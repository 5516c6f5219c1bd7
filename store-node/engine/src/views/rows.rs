//! Keys and values of the small tables. What cannot be read gives `None`.

use apogee_model::store::RequestId;
use apogee_model::{ConsumerGroup, DeliverySeq, Epoch, GroupId, QueueId, QueueOffset, Timestamp, Topic, TopicId};

use crate::block::Lsn;
use crate::codec::{Reader, put_text};
use crate::pop::Entry;
use crate::record::QueueOf;

const VERSION: u8 = 1;

/// Requests that share a row of [`super::Table::Resend`].
pub(crate) const RESENDS_PER_ROW: usize = 512;

/// Key of a row of [`super::Table::QueueMeta`].
pub(crate) fn queue_key((topic, queue): (TopicId, QueueId)) -> [u8; 6] {
    let mut key = [0; 6];
    key[..4].copy_from_slice(&topic.0.to_be_bytes());
    key[4..].copy_from_slice(&queue.0.to_be_bytes());
    key
}

pub(crate) fn split_queue_key(key: &[u8]) -> Option<(TopicId, QueueId)> {
    let key: &[u8; 6] = key.try_into().ok()?;
    Some((TopicId(be32(key, 0)), QueueId(be16(key, 4))))
}

/// What a queue holds: first offset, next offset, and where the first message is.
pub(crate) fn put_queue(row: &mut Vec<u8>, min: QueueOffset, next: QueueOffset, min_lsn: Lsn) {
    row.push(VERSION);
    [min.0, next.0, min_lsn.0].iter().for_each(|number| row.extend_from_slice(&number.to_le_bytes()));
}

pub(crate) fn queue(row: &[u8]) -> Option<(QueueOffset, QueueOffset, Lsn)> {
    let mut rest = versioned(row, 25)?;
    Some((QueueOffset(rest.u64()?), QueueOffset(rest.u64()?), Lsn(rest.u64()?)))
}

/// Key of a group's row of [`super::Table::GroupQueue`] about a whole topic.
pub(crate) fn group_topic_key(group: GroupId, topic: TopicId) -> [u8; 8] {
    let mut key = [0; 8];
    key[..4].copy_from_slice(&group.0.to_be_bytes());
    key[4..].copy_from_slice(&topic.0.to_be_bytes());
    key
}

/// Key of a group's row of [`super::Table::GroupQueue`] about one queue.
pub(crate) fn group_queue_key(of: QueueOf) -> [u8; 10] {
    let mut key = [0; 10];
    key[..8].copy_from_slice(&group_topic_key(of.group, of.topic));
    key[8..].copy_from_slice(&of.queue.0.to_be_bytes());
    key
}

/// Ends the key of an offset that a group committed itself.
const PULLED: u8 = 1;

/// Key of a row of [`super::Table::GroupQueue`] about an offset that a group committed itself.
pub(crate) fn pull_offset_key(of: QueueOf) -> [u8; 11] {
    let mut key = [PULLED; 11];
    key[..10].copy_from_slice(&group_queue_key(of));
    key
}

/// What a row of [`super::Table::GroupQueue`] is about.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum GroupKey {
    Topic(GroupId, TopicId),
    /// The cursor of Pop.
    Queue(QueueOf),
    PullOffset(QueueOf),
}

/// A key of [`super::Table::GroupQueue`].
pub(crate) fn split_group_key(key: &[u8]) -> Option<GroupKey> {
    if key.len() < 8 {
        return None;
    }
    let (group, topic) = (GroupId(be32(key, 0)), TopicId(be32(key, 4)));
    let of = || QueueOf { group, topic, queue: QueueId(be16(key, 8)) };
    match key.len() {
        8 => Some(GroupKey::Topic(group, topic)),
        10 => Some(GroupKey::Queue(of())),
        11 if key[10] == PULLED => Some(GroupKey::PullOffset(of())),
        _ => None,
    }
}

pub(crate) fn put_open(row: &mut Vec<u8>, open: bool) {
    row.extend_from_slice(&[VERSION, u8::from(open)]);
}

pub(crate) fn open(row: &[u8]) -> Option<bool> {
    match versioned(row, 2)?.u8()? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

pub(crate) fn put_cursor(row: &mut Vec<u8>, cursor: QueueOffset) {
    row.push(VERSION);
    row.extend_from_slice(&cursor.0.to_le_bytes());
}

pub(crate) fn cursor(row: &[u8]) -> Option<QueueOffset> {
    versioned(row, 9)?.u64().map(QueueOffset)
}

/// Key of a row of [`super::Table::Lease`].
pub(crate) fn lease_key(of: QueueOf, offset: QueueOffset) -> [u8; 18] {
    let mut key = [0; 18];
    key[..10].copy_from_slice(&group_queue_key(of));
    key[10..].copy_from_slice(&offset.0.to_be_bytes());
    key
}

pub(crate) fn split_lease_key(key: &[u8]) -> Option<(QueueOf, QueueOffset)> {
    let key: &[u8; 18] = key.try_into().ok()?;
    let of = QueueOf { group: GroupId(be32(key, 0)), topic: TopicId(be32(key, 4)), queue: QueueId(be16(key, 8)) };
    Some((of, QueueOffset(be64(key, 10))))
}

/// The first key of a group in the tables whose keys begin with a group; that of the next group is where it ends.
pub(crate) fn group_start(group: u64) -> Vec<u8> {
    u32::try_from(group).map_or(super::END.to_vec(), |group| group.to_be_bytes().to_vec())
}

const AUTO_RENEW: u8 = 1;
const CONFIRMED: u8 = 2;
const REPLAYED: u8 = 4;
const SUSPENDED: u8 = 8;

pub(crate) fn put_entry(row: &mut Vec<u8>, entry: &Entry) {
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    row.push(VERSION);
    let delivered = flag(entry.confirmed, CONFIRMED) | flag(entry.replayed, REPLAYED);
    row.push(flag(entry.auto_renew, AUTO_RENEW) | delivered | flag(entry.suspended, SUSPENDED));
    row.extend_from_slice(&entry.attempt.to_le_bytes());
    let Entry { delivery, granted_at, epoch, lease_from, duration_ms, attempt_id, client, .. } = entry;
    for number in [delivery.0, granted_at.0, epoch.0, lease_from.0, *duration_ms, *attempt_id, *client] {
        row.extend_from_slice(&number.to_le_bytes());
    }
}

pub(crate) fn entry(row: &[u8]) -> Option<Entry> {
    let mut rest = versioned(row, 62)?;
    let flags = rest.u8()?;
    if flags & !(AUTO_RENEW | CONFIRMED | REPLAYED | SUSPENDED) != 0 {
        return None;
    }
    Some(Entry {
        attempt: rest.u32()?,
        delivery: DeliverySeq(rest.u64()?),
        granted_at: Timestamp(rest.u64()?),
        epoch: Epoch(rest.u64()?),
        lease_from: Timestamp(rest.u64()?),
        duration_ms: rest.u64()?,
        attempt_id: rest.u64()?,
        client: rest.u64()?,
        auto_renew: flags & AUTO_RENEW != 0,
        confirmed: flags & CONFIRMED != 0,
        replayed: flags & REPLAYED != 0,
        suspended: flags & SUSPENDED != 0,
    })
}

/// What an id stands for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Name {
    Topic(TopicId, Topic),
    Group(GroupId, ConsumerGroup),
    /// Messages of the topic are found by no key.
    NotIndexed(TopicId),
    Seal(TopicId, SealRow),
}

/// Message groups of a topic have to be hashed over the queues of this epoch, and what the queues held before is below
/// these offsets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SealRow {
    pub(crate) epoch: u32,
    pub(crate) ends: Vec<(QueueId, QueueOffset)>,
}

const TOPIC: u8 = 1;
const GROUP: u8 = 2;
const NOT_INDEXED: u8 = 3;
const SEAL: u8 = 4;

/// Key of a topic's row of [`super::Table::Name`].
pub(crate) fn topic_name_key(id: TopicId) -> [u8; 5] {
    name_key(TOPIC, id.0)
}

/// Key of a consumer group's row of [`super::Table::Name`].
pub(crate) fn group_name_key(id: GroupId) -> [u8; 5] {
    name_key(GROUP, id.0)
}

/// Key of the row of [`super::Table::Name`] that a topic has whose messages are found by no key.
pub(crate) fn not_indexed_key(id: TopicId) -> [u8; 5] {
    name_key(NOT_INDEXED, id.0)
}

/// Key of the row of [`super::Table::Name`] that a topic has which was sealed.
pub(crate) fn seal_key(id: TopicId) -> [u8; 5] {
    name_key(SEAL, id.0)
}

fn name_key(kind: u8, id: u32) -> [u8; 5] {
    let [a, b, c, d] = id.to_be_bytes();
    [kind, a, b, c, d]
}

pub(crate) fn put_name(row: &mut Vec<u8>, namespace: &str, name: &str) {
    row.push(VERSION);
    put_text(row, namespace);
    put_text(row, name);
}

pub(crate) fn put_not_indexed(row: &mut Vec<u8>) {
    row.push(VERSION);
}

pub(crate) fn put_seal(row: &mut Vec<u8>, seal: &SealRow) {
    row.push(VERSION);
    row.extend_from_slice(&seal.epoch.to_le_bytes());
    for (queue, end) in &seal.ends {
        row.extend_from_slice(&queue.0.to_le_bytes());
        row.extend_from_slice(&end.0.to_le_bytes());
    }
}

fn seal(row: &[u8]) -> Option<SealRow> {
    let mut rest = versioned(row, row.len())?;
    let (epoch, mut ends) = (rest.u32()?, Vec::new());
    while rest.left() > 0 {
        ends.push((QueueId(rest.u16()?), QueueOffset(rest.u64()?)));
    }
    Some(SealRow { epoch, ends })
}

pub(crate) fn name(key: &[u8], row: &[u8]) -> Option<Name> {
    let key: &[u8; 5] = key.try_into().ok()?;
    if key[0] == NOT_INDEXED {
        return (row == [VERSION]).then_some(Name::NotIndexed(TopicId(be32(key, 1))));
    }
    if key[0] == SEAL {
        return seal(row).map(|seal| Name::Seal(TopicId(be32(key, 1)), seal));
    }
    let mut rest = versioned(row, row.len())?;
    let (namespace, name) = (rest.text()?, rest.text()?);
    match key[0] {
        TOPIC => Topic::parse(namespace, name).ok().map(|name| Name::Topic(TopicId(be32(key, 1)), name)),
        GROUP => ConsumerGroup::parse(namespace, name).ok().map(|name| Name::Group(GroupId(be32(key, 1)), name)),
        _ => None,
    }
}

/// One append that is remembered, so that a resend of it gets its result again.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Earlier {
    pub(crate) request: RequestId,
    /// Where its first message is; the order of the log.
    pub(crate) lsn: Lsn,
    pub(crate) topic: TopicId,
    pub(crate) queue: QueueId,
    /// Offset of the first message; the others follow.
    pub(crate) first: QueueOffset,
    pub(crate) count: u32,
    pub(crate) stored_at: Timestamp,
    /// When a message that is kept back is due; `first` is then its number. 0 of all others.
    pub(crate) due: Timestamp,
}

impl Earlier {
    /// A half message is never due; `first` is its number, too.
    pub(crate) const HALF: Timestamp = Timestamp(u64::MAX);
}

const EARLIER: usize = 58;

/// Key of a row of [`super::Table::Resend`].
pub(crate) fn resend_key(first: Lsn) -> [u8; 8] {
    first.0.to_be_bytes()
}

/// At most [`RESENDS_PER_ROW`].
pub(crate) fn put_resends<'a>(row: &mut Vec<u8>, all: impl Iterator<Item = &'a Earlier>) {
    row.push(VERSION);
    for earlier in all {
        row.extend_from_slice(&earlier.lsn.0.to_le_bytes());
        row.extend_from_slice(&earlier.request.proxy_incarnation.to_le_bytes());
        row.extend_from_slice(&earlier.request.sequence.to_le_bytes());
        row.extend_from_slice(&earlier.topic.0.to_le_bytes());
        row.extend_from_slice(&earlier.queue.0.to_le_bytes());
        row.extend_from_slice(&earlier.first.0.to_le_bytes());
        row.extend_from_slice(&earlier.count.to_le_bytes());
        row.extend_from_slice(&earlier.stored_at.0.to_le_bytes());
        row.extend_from_slice(&earlier.due.0.to_le_bytes());
    }
}

pub(crate) fn resends(row: &[u8]) -> Option<Vec<Earlier>> {
    let (_, body) = row.split_first().filter(|(version, _)| **version == VERSION)?;
    if !body.len().is_multiple_of(EARLIER) || body.len() > EARLIER * RESENDS_PER_ROW {
        return None;
    }
    body.chunks_exact(EARLIER).map(|bytes| earlier(&mut Reader::new(bytes))).collect()
}

fn earlier(rest: &mut Reader<'_>) -> Option<Earlier> {
    Some(Earlier {
        lsn: Lsn(rest.u64()?),
        request: RequestId { proxy_incarnation: rest.u64()?, sequence: rest.u64()? },
        topic: TopicId(rest.u32()?),
        queue: QueueId(rest.u16()?),
        first: QueueOffset(rest.u64()?),
        count: rest.u32()?,
        stored_at: Timestamp(rest.u64()?),
        due: Timestamp(rest.u64()?),
    })
}

/// What follows the version of a row of exactly `len` bytes.
fn versioned(row: &[u8], len: usize) -> Option<Reader<'_>> {
    let mut rest = Reader::new(row);
    (row.len() == len && rest.u8()? == VERSION).then_some(rest)
}

fn be16(key: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(key[at..at + 2].try_into().expect("two bytes"))
}

fn be32(key: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(key[at..at + 4].try_into().expect("four bytes"))
}

fn be64(key: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(key[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests;
