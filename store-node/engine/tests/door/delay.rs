//! Messages that come later, through restarts.

use std::time::Duration;

use apogee_host::{Clock as _, SimDisk, TokioClock};
use apogee_model::QueueId;
use apogee_model::store::{Append, Appended, KeptId, Recall, Recalled, RequestId};
use tokio::time::{Instant, sleep};

use crate::support::Store;
use crate::words::{message, receive, topic};

async fn send(store: &Store, began: Instant, body: &str, after: Duration, sequence: u64) -> Appended {
    let request = RequestId { proxy_incarnation: 7, sequence };
    let due = Some(TokioClock::since(began).wall().plus(after));
    let append = Append {
        topic: topic(),
        queue: QueueId(0),
        message: message("", body),
        request,
        due,
        half: None,
        lite: None,
        indexed: true,
        epoch: 0,
    };
    store.engine.append(vec![append]).await.expect("the store takes it")[0]
}

async fn recall(store: &Store, id: KeptId) -> Recalled {
    store.engine.recall(Recall { topic: topic().id, id }).await.expect("the store answers")
}

#[tokio::test(start_paused = true)]
async fn messages_come_in_their_time_and_wait_through_restarts() {
    let began = Instant::now();
    let mut store = Store::since(began, SimDisk::new(1)).await;
    let late = Duration::from_millis(10);
    let sent = send(&store, began, "second", Duration::from_secs(20), 1).await;
    send(&store, began, "first", Duration::from_secs(10), 2).await;
    let never = send(&store, began, "never", Duration::from_secs(10), 3).await;
    let again = send(&store, began, "second", Duration::from_secs(30), 1).await;
    assert_eq!((sent.kept, again.kept), (again.kept, sent.kept), "a resend gets the first result");
    assert_eq!(recall(&store, never.kept.expect("it waits")).await, Recalled::Done);

    assert_eq!(store.tasks.close(Duration::from_secs(10)).await, Vec::<&str>::new());
    store = Store::since(began, store.disk).await;
    sleep(Duration::from_secs(10).saturating_sub(began.elapsed() + Duration::from_millis(1))).await;
    assert_eq!(store.bodies(receive(9)).await, Vec::<String>::new());
    sleep(Duration::from_secs(10).saturating_sub(began.elapsed()) + late).await;
    assert_eq!(store.bodies(receive(9)).await, ["first"]);

    let disk = store.disk.power_cut();
    drop(store);
    store = Store::since(began, disk).await;
    assert_eq!(recall(&store, never.kept.expect("it waits")).await, Recalled::TooLate);
    sleep(Duration::from_secs(20).saturating_sub(began.elapsed()) + late).await;
    let popped = store.engine.pop(receive(9)).await.expect("the store answers");
    let second = popped.messages.iter().find(|delivery| delivery.message == message("", "second"));
    let due = sent.kept.expect("it waited").due;
    let lateness = second.expect("it came").stored_at.since(due);
    assert!(lateness <= late, "{lateness:?} late");
    assert_eq!(recall(&store, sent.kept.expect("it waited")).await, Recalled::TooLate);
}

#[tokio::test(start_paused = true)]
async fn twenty_thousand_messages_are_there_soon_after_they_are_due() {
    const COUNT: u64 = 20_000;
    let began = Instant::now();
    let store = Store::since(began, SimDisk::new(1)).await;
    let due = Some(TokioClock::since(began).wall().plus(Duration::from_secs(3600)));
    for first in (0..COUNT).step_by(1000) {
        let append = |nth: u64| Append {
            topic: topic(),
            queue: QueueId(u16::try_from(nth % 4).expect("four queues")),
            message: message("", "x"),
            request: RequestId { proxy_incarnation: 0, sequence: 0 },
            due,
            half: None,
            lite: None,
            indexed: true,
            epoch: 0,
        };
        let appends = (first..first + 1000).map(append).collect();
        store.engine.append(appends).await.expect("the store takes them");
    }
    sleep(Duration::from_secs(3600).saturating_sub(began.elapsed()) + Duration::from_secs(1)).await;
    let status = store.engine.topic_status(topic().id).await.expect("the store answers");
    let (there, waiting) = status.iter().fold((0, 0), |sum, queue| (sum.0 + queue.max.0, sum.1 + queue.delayed));
    assert_eq!((there, waiting), (COUNT, 0));
}
