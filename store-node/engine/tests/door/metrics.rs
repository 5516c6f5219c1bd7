//! What operators see of messages that wait, for their time or for the end of their transaction.

use std::time::Duration;

use apogee_host::{Clock as _, Identity, SimDisk, TokioClock, telemetry};
use apogee_model::store::{
    Append, Appended, EndTransaction, Half, Recall, Recalled, RequestId, Resolution, TransactionEnded,
};
use apogee_model::{QueueId, Timestamp};
use tokio::time::{Instant, sleep};

use crate::support::{COMMIT, Store, TEN_SECONDS};
use crate::words::{message, topic};

const MINUTE: Duration = Duration::from_secs(60);

fn shown() -> telemetry::Metrics {
    let identity = Identity { cluster: String::new(), role: "", node_type: "", node: String::new(), version: "1.2.3" };
    telemetry::Metrics::new(&identity).expect("good labels")
}

/// The values of all series of that name which say something of the topic, or of no topic.
fn values(shown: &telemetry::Metrics, name: &str) -> Vec<String> {
    let text = shown.render();
    let of_name = text.lines().filter(|line| line.starts_with(&format!("{name}{{")));
    let ours = of_name.filter(|line| line.contains(r#"group="broker-0""#));
    let ours = ours.filter(|line| line.contains(r#"topic="orders""#) || !line.contains("topic="));
    ours.filter_map(|line| line.rsplit(' ').next()).map(str::to_owned).collect()
}

async fn send(store: &Store, sequence: u64, due: Option<Timestamp>, half: Option<Half>) -> Appended {
    let request = RequestId { proxy_incarnation: 7, sequence };
    let append = Append {
        topic: topic(),
        queue: QueueId(0),
        message: message("", "m"),
        request,
        due,
        half,
        lite: None,
        indexed: true,
        epoch: 0,
    };
    store.engine.append(vec![append]).await.expect("the store takes it")[0]
}

#[tokio::test(start_paused = true)]
async fn messages_that_wait_for_their_time_are_counted() {
    let (began, first, second) = (Instant::now(), shown(), shown());
    let store = Store::metered(began, SimDisk::new(1), first.meter()).await;
    let wall = TokioClock::since(began).wall();
    let check = |shown: &telemetry::Metrics, waiting: &[&str], enqueued: &[&str], dequeued: &[&str]| {
        assert_eq!(values(shown, "rocketmq_timing_messages"), waiting, "{}", shown.render());
        assert_eq!(values(shown, "rocketmq_timer_enqueue_total"), enqueued, "{}", shown.render());
        assert_eq!(values(shown, "rocketmq_timer_dequeue_total"), dequeued, "{}", shown.render());
    };
    check(&first, &[], &[], &[]);
    let mut sent = Vec::new();
    for (sequence, minutes) in [(1, 5), (2, 20), (3, 20), (4, 20)] {
        sent.push(send(&store, sequence, Some(wall.plus(MINUTE * minutes)), None).await);
    }
    send(&store, 4, Some(wall.plus(MINUTE * 30)), None).await;
    check(&first, &["4"], &["4"], &[]);
    assert_eq!(values(&first, "rocketmq_delay_message_latency_count"), ["4"], "what is sent again is one");
    assert_eq!(values(&first, "rocketmq_delay_message_latency_bucket"), ["0", "1", "4", "4", "4", "4", "4"]);

    let recall = Recall { topic: topic().id, id: sent[3].kept.expect("it waits") };
    assert_eq!(store.engine.recall(recall).await, Ok(Recalled::Done));
    check(&first, &["3"], &["4"], &[]);
    sleep(MINUTE * 5).await;
    sleep(COMMIT).await;
    check(&first, &["2"], &["4"], &["1"]);
    assert_eq!(values(&first, "rocketmq_timer_dequeue_latency"), ["0"]);

    assert_eq!(store.tasks.close(TEN_SECONDS).await, Vec::<&str>::new());
    let store = Store::metered(began, store.disk, second.meter()).await;
    check(&second, &["2"], &[], &[]);
    sleep(MINUTE * 15).await;
    check(&second, &["0"], &[], &["2"]);
    assert_eq!(store.tasks.close(TEN_SECONDS).await, Vec::<&str>::new());
}

#[tokio::test(start_paused = true)]
async fn transactions_are_counted() {
    let shown = shown();
    let store = Store::metered(Instant::now(), SimDisk::new(1), shown.meter()).await;
    let half = Some(Half { check_after: MINUTE });
    let mut ids = Vec::new();
    for sequence in 1..=3 {
        ids.push(send(&store, sequence, None, half).await.half.expect("it is a half message"));
    }
    assert_eq!(values(&shown, "rocketmq_half_messages"), ["3"]);
    sleep(TEN_SECONDS).await;
    for (id, resolution) in [(ids[0], Resolution::Commit), (ids[0], Resolution::Commit), (ids[2], Resolution::Rollback)]
    {
        let end = EndTransaction { topic: topic().id, id, resolution };
        assert_eq!(store.engine.end_transaction(end).await, Ok(TransactionEnded::Done));
    }
    assert_eq!(values(&shown, "rocketmq_half_messages"), ["1"]);
    assert_eq!(values(&shown, "rocketmq_commit_messages_total"), ["1"], "an end that is said again is one");
    assert_eq!(values(&shown, "rocketmq_rollback_messages_total"), ["1"]);
    let latency = values(&shown, "rocketmq_finish_message_latency_bucket");
    assert_eq!(latency, ["0", "2", "2", "2", "2", "2", "2"], "{}", shown.render());
}
