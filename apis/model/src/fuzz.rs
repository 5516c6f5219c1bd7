//! What fuzzing does to the parsers of this crate, and valid inputs to begin with. Not part of the product: `tests/fuzz`
//! calls it with what libFuzzer makes up, and a test of the workspace with a few mutations of the seeds.

use std::sync::Arc;

use bytes::Bytes;

use crate::handle::seal;
use crate::store::{HalfId, KeptId};
use crate::{
    DeliverySeq, Epoch, Filter, GroupId, MacKey, MacKeys, QueueId, QueueOffset, RecallHandle, ReceiptHandle,
    ReplicaGroupId, Sql, StoredMessage, TagFilter, Timestamp, TopicId, TransactionId, tag_hash,
};

/// A text is a handle only if we would sign it so: as it comes, and behind a MAC that is right.
///
/// # Panics
/// When a handle is accepted that is none, or a good one is not.
pub fn handles(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        Kind::ALL.iter().for_each(|kind| kind.check(text));
    }
    for kind in Kind::ALL {
        let text = seal(kind.number(), data, &keys(1));
        Kind::ALL.iter().for_each(|kind| kind.check(&text));
    }
}

/// Handles of all kinds.
pub fn handle_seeds() -> Vec<Vec<u8>> {
    let (replica_group, topic, message_id) = (ReplicaGroupId(7), TopicId(5), "01ABCDEF012345000106B0F8400000002A");
    let receipt = ReceiptHandle {
        replica_group,
        epoch: Epoch(3),
        group: GroupId(11),
        topic,
        queue: QueueId(2),
        offset: QueueOffset(1 << 40),
        delivery: DeliverySeq(99),
    };
    let id = KeptId { due: Timestamp(1_767_225_600_000), number: 99 };
    let recall = RecallHandle { replica_group, topic, id, message_id: message_id.to_owned() };
    let half = HalfId(1_700_000_000_123);
    let transaction = TransactionId { replica_group, topic, half, message_id: message_id.to_owned() };
    [receipt.sign(&keys(1)), recall.sign(&keys(1)), transaction.sign(&keys(1))].map(String::into_bytes).into()
}

/// A filter that compiles reads the same when it is printed, and never panics on a message.
///
/// # Panics
/// When it does not.
pub fn filters(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(filter) = TagFilter::parse(&text) {
        tags(&filter);
    }
    match Sql::compile(&text) {
        Ok(sql) => {
            assert!(sql.reads_back(), "{text:?} is printed as something else");
            let _any = sql.matches(|name| (name.len() % 3 > 0).then_some(sql.text()));
            let bytes = Bytes::copy_from_slice(data);
            Filter::Sql(sql).wants(&StoredMessage { body_part: bytes.clone(), properties_part: bytes });
        }
        Err(error) => assert!(error.at <= text.len() && text.is_char_boundary(error.at), "{error}"),
    }
}

/// Expressions of both kinds.
pub fn filter_seeds() -> Vec<Vec<u8>> {
    let texts = [
        "*",
        "TagA || TagB",
        "a > 5 AND (b IS NOT NULL OR NOT c = 'it''s') -- why",
        "price BETWEEN -1.5e3 AND 200 OR region NOT IN ('a', 'b')",
        "a CONTAINS 'x' AND b NOT STARTSWITH 'y' OR c ENDSWITH 'z'",
        "TRUE = a /* b */ OR 5L <= -c OR TAGS <> 'd' OR e IS NULL",
    ];
    texts.map(|text| text.as_bytes().to_vec()).into()
}

/// A kind of handle.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Kind {
    Receipt,
    Recall,
    Transaction,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Receipt, Self::Recall, Self::Transaction];

    fn number(self) -> u8 {
        match self {
            Self::Receipt => 1,
            Self::Recall => 2,
            Self::Transaction => 3,
        }
    }

    /// The text of a handle again, if it is one.
    fn signed_again(self, text: &str, keys: &MacKeys) -> Option<String> {
        match self {
            Self::Receipt => ReceiptHandle::verify(text, keys).ok().map(|handle| handle.sign(keys)),
            Self::Recall => RecallHandle::verify(text, keys).ok().map(|handle| handle.sign(keys)),
            Self::Transaction => TransactionId::verify(text, keys).ok().map(|id| id.sign(keys)),
        }
    }

    fn check(self, text: &str) {
        let Some(again) = self.signed_again(text, &keys(1)) else { return };
        assert_eq!(again, text, "a {self:?} is accepted that we would not sign");
        assert_eq!(self.signed_again(text, &keys(2)), None, "another secret signed this {self:?}");
        let other = Self::ALL.into_iter().filter(|kind| *kind != self);
        assert!(other.clone().all(|kind| kind.signed_again(text, &keys(1)).is_none()), "{text} is of two kinds");
        for at in (0..text.len()).step_by(text.len() / 16 + 1) {
            let mut forged = text.as_bytes().to_vec();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).expect("base64 is ASCII");
            assert_eq!(self.signed_again(&forged, &keys(1)), None, "a forged {self:?} is accepted: {forged}");
        }
    }
}

fn keys(secret: u8) -> MacKeys {
    MacKeys { current: MacKey { generation: 1, secret: [secret; 32] }, previous: None }
}

fn tags(filter: &TagFilter) {
    let TagFilter::AnyOf(tags) = filter else { return };
    for tag in tags.iter() {
        assert!(filter.wants(Some(tag)) && filter.may_want(tag_hash(Some(tag))), "{tag:?} is asked for");
        let alone = TagFilter::AnyOf(Arc::new([tag.clone()].into()));
        assert_eq!(TagFilter::parse(&format!("||{tag}")), Ok(alone), "{tag:?} is a tag by itself");
    }
}
