//! Message groups: messages that an ordered consumer group works on one after the other.
//!
//! Both hashes are part of what is stored and of what every proxy does alike: they never change.

use crate::QueueId;

/// The hash kept in the consume queue: 0 for no message group, else a number that is not 0. Two message groups of a queue
/// with the same hash wait for each other, and that is all.
pub fn message_group_hash(group: Option<&str>) -> u32 {
    match group {
        None | Some("") => 0,
        Some(group) => u32::try_from(mixed(group) >> 32).expect("32 bits").max(1),
    }
}

/// The queue of a message group among the `queues` of its topic, at least 1: the same at every proxy, whatever the client says, because
/// SDKs hash differently. When queues are added, only message groups that go to the new ones move.
///
/// Source: Lamping and Veach, "A Fast, Minimal Memory, Consistent Hash Algorithm" (2014); upstream uses a hash of this
/// kind, too (apache/rocketmq `proxy/.../SendMessageActivity.java`).
pub fn message_group_queue(group: &str, queues: u16) -> QueueId {
    let (mut seed, mut chosen, mut next) = (mixed(group), 0, 0_u64);
    while next < u64::from(queues) {
        chosen = next;
        seed = seed.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        next = ((chosen + 1) << 31) / ((seed >> 33) + 1);
    }
    QueueId(u16::try_from(chosen).expect("smaller than a count of 16 bits"))
}

/// FNV-1a, and a last turn that lets every byte reach every bit.
fn mixed(group: &str) -> u64 {
    let hash = crate::hash(group.as_bytes());
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn what_is_stored_stays_readable() {
        assert_eq!((message_group_hash(None), message_group_hash(Some(""))), (0, 0));
        let known = ["order-1", "order-2", "Grüße"]
            .map(|group| (message_group_hash(Some(group)), message_group_queue(group, 8)));
        assert_eq!(known, KNOWN);
    }

    const KNOWN: [(u32, QueueId); 3] =
        [(3_234_499_321, QueueId(0)), (1_462_236_459, QueueId(7)), (2_173_883_889, QueueId(4))];

    #[test]
    fn message_groups_are_spread_over_all_queues() {
        let mut counts: BTreeMap<QueueId, u32> = BTreeMap::new();
        (0..8000).for_each(|nth| *counts.entry(message_group_queue(&format!("order-{nth}"), 8)).or_default() += 1);
        assert_eq!(counts.len(), 8);
        assert!(counts.values().all(|count| (800..1200).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_new_queue_takes_from_the_others_and_moves_nothing_between_them() {
        for nth in 0..2000 {
            let group = format!("order-{nth}");
            let (before, after) = (message_group_queue(&group, 8), message_group_queue(&group, 9));
            assert!(after == before || after == QueueId(8), "{group}");
        }
        assert_eq!(message_group_queue("any", 1), QueueId(0));
    }
}
