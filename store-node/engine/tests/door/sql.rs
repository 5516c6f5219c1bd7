//! Filters by expression.

use std::time::Duration;

use apogee_model::store::{Append, Pop, RequestId};
use apogee_model::{Filter, GroupId, QueueId, QueueOffset, StoredMessage};
use futures::future::join_all;

use crate::support::{Store, TEN_SECONDS};
use crate::words::{dead, dead_letters, group, message, receive, topic};

fn wanted(sql: &str, batch: usize) -> Pop {
    Pop { filter: Filter::sql(sql).expect("a good expression"), ..receive(batch) }
}

/// Many messages, hundreds in a send.
async fn send_many(store: &Store, queue: u16, tag: &str, body: &str, count: usize) {
    let request = RequestId { proxy_incarnation: 0, sequence: 1 };
    let append = Append {
        topic: topic(),
        queue: QueueId(queue),
        message: message(tag, body),
        request,
        due: None,
        half: None,
        lite: None,
        indexed: true,
        epoch: 0,
    };
    for from in (0..count).step_by(500) {
        let messages = vec![append.clone(); (count - from).min(500)];
        store.engine.append(messages).await.expect("the store takes them");
    }
}

/// Pops until something comes, as a proxy does it; how often that was.
async fn patient(store: &Store, pop: &Pop) -> (Vec<String>, usize) {
    for asked in 1.. {
        let popped = store.engine.pop(pop.clone()).await.expect("the store answers");
        if !popped.messages.is_empty() || !popped.more {
            return (crate::words::seen(&popped).into_iter().map(|(body, _, _)| body).collect(), asked);
        }
    }
    unreachable!("the loop has no end")
}

async fn cursor(store: &Store, queue: u16) -> QueueOffset {
    let status = store.engine.group_status(GroupId(1)).await.expect("the store answers");
    status.iter().find(|status| status.queue == QueueId(queue)).expect("the group reads it").cursor
}

#[tokio::test(start_paused = true)]
async fn an_expression_skips_for_the_whole_group() {
    let store = Store::new().await;
    for (queue, tag, body) in [(0, "x", "1"), (0, "y", "2"), (1, "", "3"), (0, "x", "4"), (2, "xy", "5")] {
        store.send(queue, tag, body).await;
    }
    let mut got = store.bodies(wanted("TAGS STARTSWITH 'x'", 32)).await;
    got.extend(store.bodies(wanted("TAGS STARTSWITH 'x'", 32)).await);
    got.sort_unstable();
    assert_eq!(got, ["1", "4", "5"]);
    assert_eq!(store.pop(receive(32)).await, [], "the group is past the others");
    let other = Pop { group: apogee_model::store::GroupRef { id: GroupId(2), ..group() }, ..receive(32) };
    let mut all = 0;
    while let n @ 1.. = store.pop(other.clone()).await.len() {
        all += n;
    }
    assert_eq!(all, 5, "another group is not");
}

#[tokio::test(start_paused = true)]
async fn user_properties_are_looked_up() {
    let store = Store::new().await;
    let request = RequestId { proxy_incarnation: 0, sequence: 1 };
    for size in ["4", "5", "x"] {
        let entry = [b"\x0a\x04size\x12\x01", size.as_bytes()].concat();
        let body_part = [&[0x12, 9], entry.as_slice(), b"\x22\x01", size.as_bytes()].concat();
        let message = StoredMessage { body_part: body_part.into(), ..StoredMessage::default() };
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
        store.engine.append(vec![append]).await.expect("the store takes it");
    }
    let got = store.bodies(wanted("size > 4", 32)).await;
    assert!(got.len() == 1 && got[0].ends_with('5'), "{got:?}");
}

#[tokio::test(start_paused = true)]
async fn what_was_refused_is_never_looked_at_again() {
    let store = Store::new().await;
    send_many(&store, 0, "other", "a", 600).await;
    assert_eq!(patient(&store, &wanted("TAGS = 'b'", 32)).await, (vec![], 1));
    assert_eq!(cursor(&store, 0).await, QueueOffset(600), "a pop that finds nothing moves the group");
    let store = store.restart().await;
    assert_eq!(cursor(&store, 0).await, QueueOffset(600), "which is in the log");
    assert_eq!(store.pop(receive(32)).await, []);
    store.send(0, "b", "wanted").await;
    assert_eq!(store.bodies(wanted("TAGS = 'b'", 32)).await, ["wanted"]);
}

#[tokio::test(start_paused = true)]
async fn a_long_way_to_a_message_is_gone_in_steps() {
    let store = Store::new().await;
    send_many(&store, 0, "other", "a", 20_000).await;
    store.send(0, "b", "wanted").await;
    send_many(&store, 1, "other", "a", 300).await;
    let (got, asked) = patient(&store, &wanted("TAGS = 'b'", 32)).await;
    assert_eq!(got, ["wanted"]);
    assert!((2..=4).contains(&asked), "{asked}");
}

#[tokio::test(start_paused = true)]
async fn large_messages_are_looked_at_some_at_a_time() {
    let store = Store::new().await;
    for tag in ["a", "b", "a", "a", "b"] {
        store.send(0, tag, &"x".repeat(2 << 20)).await;
    }
    for _ in 0..2 {
        assert_eq!(store.bodies(wanted("TAGS = 'b'", 1)).await.len(), 1);
    }
    assert_eq!(store.pop(wanted("TAGS = 'b'", 1)).await, []);
    assert_eq!(cursor(&store, 0).await, QueueOffset(5));
}

#[tokio::test(start_paused = true)]
async fn messages_come_again_to_those_who_want_them() {
    let store = Store::new().await;
    for (tag, body) in [("x", "1"), ("y", "2"), ("x", "3"), ("y", "4")] {
        store.send(0, tag, body).await;
    }
    assert_eq!(store.pop(receive(32)).await.len(), 4);
    tokio::time::sleep(TEN_SECONDS * 2).await;
    let again = store.pop(wanted("TAGS = 'y'", 1)).await;
    assert_eq!((again[0].0.as_str(), again[0].1), ("2", 2), "what others want does not block it");
    assert_eq!(store.bodies(wanted("TAGS = 'y'", 32)).await, ["4"]);
    assert_eq!(store.bodies(wanted("TAGS = 'y'", 32)).await, [""; 0]);
    assert_eq!(store.bodies(receive(32)).await, ["1", "3"], "and they are still there");
    tokio::time::sleep(TEN_SECONDS * 2).await;
    assert_eq!(store.bodies(wanted("TAGS = 'y'", 32)).await, ["2", "4"], "asked a second time, wanted again");
}

#[tokio::test(start_paused = true)]
async fn thousands_that_nobody_wants_now_do_not_hide_one() {
    let store = Store::new().await;
    send_many(&store, 0, "other", "a", 3_000).await;
    store.send(0, "b", "wanted").await;
    let mut left = 3_001;
    while left > 0 {
        left -= store.pop(receive(32)).await.len();
    }
    tokio::time::sleep(TEN_SECONDS * 2).await;
    assert_eq!(patient(&store, &wanted("TAGS = 'b'", 32)).await, (vec!["wanted".to_owned()], 1));
    assert_eq!(patient(&store, &wanted("TAGS = 'b'", 32)).await, (vec![], 1));
}

#[tokio::test(start_paused = true)]
async fn consumers_beside_each_other_share_what_is_wanted() {
    let store = Store::new().await;
    for nth in 0..400 {
        store.send(nth % 4, if nth % 3 == 0 { "x" } else { "y" }, &nth.to_string()).await;
    }
    let mut got = Vec::new();
    loop {
        let pops = (0..8).map(|_| store.bodies(wanted("TAGS = 'x'", 5)));
        let round: Vec<_> = join_all(pops).await.into_iter().flatten().collect();
        if round.is_empty() {
            break;
        }
        got.extend(round);
    }
    got.sort_unstable_by_key(|body| body.parse::<u32>().expect("a number"));
    let expected: Vec<_> = (0..400).filter(|nth| nth % 3 == 0).map(|nth| nth.to_string()).collect();
    assert_eq!(got, expected, "each once");
}

#[tokio::test(start_paused = true)]
async fn a_watch_hears_of_every_arrival_once() {
    let store = Store::new().await;
    let filter = Filter::sql("TAGS = 'x'").expect("a good expression");
    let mut watch = store.engine.watch(&group(), &topic(), filter);
    store.send(0, "y", "no").await;
    assert_eq!(watch.ready().await, 1, "whether it is wanted nobody knows yet");
    assert_eq!(store.pop(wanted("TAGS = 'x'", 1)).await, []);
    let quiet = tokio::time::timeout(Duration::from_secs(60), watch.ready()).await;
    assert!(quiet.is_err(), "looking in vain tells nobody anything");
}

#[tokio::test(start_paused = true)]
async fn what_was_delivered_often_enough_is_a_dead_letter_under_a_filter_too() {
    let store = Store::new().await;
    store.send(0, "x", "a").await;
    let once = || Pop { dead_letters: Some(dead_letters(1)), ..wanted("TAGS = 'x'", 1) };
    assert_eq!(store.bodies(once()).await, ["a"]);
    tokio::time::sleep(TEN_SECONDS * 2).await;
    store.send(1, "y", "b").await;
    assert_eq!(store.bodies(once()).await, [""; 0]);
    assert_eq!(dead(&store).await, ["a"]);
}
