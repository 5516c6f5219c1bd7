//! The load generator against a real server.

use std::time::Duration;

use apogee_tests::server::{Ran, ran};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

use super::{Cli, Options, Server, ephemeral, server};

fn report(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("one document: {ran:?}"))
}

#[tokio::test]
async fn everything_that_is_sent_is_received_and_measured() {
    let server = server(ephemeral()).await;
    let cli = Cli(&server);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("e2e.hgrm");
    let line = format!("bench e2e --rate 200 --seconds 2 --size 100 --connections 2 --hdr {} -o json", file.display());
    let ran = cli.run(&line).await;
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
    let report = report(&ran);
    for phase in ["send", "receive", "ack"] {
        assert_eq!((&report[phase]["count"], &report[phase]["failed"]), (&json!(400), &json!(0)), "{report}");
        let marks = ["p50_ms", "p90_ms", "p99_ms", "p99_9_ms", "max_ms"].map(|mark| report[phase][mark].as_f64());
        assert!(marks.is_sorted() && marks[0] > Some(0.0), "{report}");
    }
    assert_eq!((&report["missing"], &report["wanted_rate"]), (&json!(0), &json!(200)));
    let text = std::fs::read_to_string(file).expect("the distribution");
    assert!(text.contains("Total count    =          400]"), "{text}");
}

#[tokio::test]
async fn what_was_produced_is_consumed_later() {
    let server = server(ephemeral()).await;
    let cli = Cli(&server);
    let table = cli.ok("bench produce --topic t --rate 500 --seconds 1 --size 2000").await;
    let send: Vec<_> = table.lines().nth(1).unwrap_or_default().split_whitespace().collect();
    assert_eq!(send.get(..3), Some(&["send", "500", "0"][..]), "{table}");
    assert_eq!(cli.json("topic stats t").await["stored"], 500);
    let consumed = cli.json("bench consume --topic t --group g --seconds 3").await;
    assert_eq!((&consumed["receive"]["count"], &consumed["ack"]["count"]), (&json!(500), &json!(500)), "{consumed}");
    assert_eq!(cli.json("group lag g").await["total"]["lag"], 0);
}

/// Runs a load of 400 messages, and says how many bytes of log each of them took.
async fn log_bytes(server: &Server, load: &str) -> (Value, f64) {
    let written = async || {
        let metrics = apogee_tests::server::metrics(server.ports().metrics).await.expect("it shows metrics");
        metrics["rocketmq_store_written_bytes_total"]
    };
    let before = written().await;
    let report = Cli(server).json(&format!("bench {load} --rate 200 --seconds 2 --size 500")).await;
    (report, (written().await - before) / 400.0)
}

#[tokio::test]
async fn transactions_are_ended_and_cost_little() {
    let server = server(ephemeral()).await;
    let cli = Cli(&server);
    cli.ok("topic create pay --type transaction").await;
    cli.ok("bench produce --topic plain --rate 1 --seconds 1").await;
    let (_, plain) = log_bytes(&server, "produce --topic plain").await;
    let (report, transaction) = log_bytes(&server, "transactions --topic pay --rollback 25").await;
    for (phase, count) in [("send", 400), ("commit", 300), ("rollback", 100)] {
        assert_eq!((&report[phase]["count"], &report[phase]["failed"]), (&json!(count), &json!(0)), "{report}");
    }
    assert!(report["commit"]["p50_ms"].as_f64() > report["send"]["p50_ms"].as_f64(), "{report}");
    assert_eq!(cli.json("topic stats pay").await["stored"], 300, "what was rolled back is nowhere");
    assert_eq!(cli.json("transaction list pay").await, json!({ "transactions": [] }));
    // Two records and the header of one more block.
    assert!(transaction - plain < 256.0, "{transaction} bytes, and {plain} of a message without a transaction");
}

/// Waits until a load has sent its second message: before the first one it still finds its way.
async fn under_way(server: &Server) {
    let stored = async || Cli(server).json("topic stats apogee-bench").await["stored"].as_u64();
    while Cli(server).json("topic list").await["topics"] == json!([]) || stored().await < Some(2) {}
}

#[tokio::test]
async fn a_stalled_server_shows_in_the_latency() {
    let server = server(ephemeral()).await;
    let mut command = server.cli_command().expect("a command");
    command.args(["bench", "produce", "--rate", "500", "--seconds", "3", "--in-flight", "8", "-o", "json"]);
    let stall = async {
        under_way(&server).await;
        server.signal(Signal::STOP).expect("it runs");
        tokio::time::sleep(Duration::from_secs(1)).await; // the stall itself
        server.signal(Signal::CONT).expect("it runs");
    };
    let (produced, ()) = tokio::join!(ran(command), stall);
    let produced = produced.expect("it ends");
    let report = report(&produced);
    // A closed loop would have seen eight slow calls; here, everything that was due in that second is late.
    assert_eq!(report["send"]["count"], 1500, "{produced:?}");
    assert!(report["send"]["p90_ms"].as_f64() > Some(100.0), "{report}");
    assert!(report["behind_max_ms"].as_f64() > Some(500.0), "{report}");
}

#[tokio::test]
async fn failures_are_counted_and_told() {
    let server = server(Options { no_auto_create: true, ..ephemeral() }).await;
    let cli = Cli(&server);
    cli.refused("bench produce --topic nowhere --seconds 1", 3, "topic_not_found").await;
    cli.refused("bench produce --rate 0", 2, "usage").await;
    cli.refused("bench transactions --rollback 101", 2, "usage").await;
    cli.refused("bench produce --rate 1000000 --seconds 86400", 2, "usage").await;
    cli.ok("topic create fifo --type fifo").await;
    let ran = cli.run("bench produce --topic fifo --rate 10 --seconds 1 -o json").await;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert_eq!((&report(&ran)["send"]["count"], &report(&ran)["send"]["failed"]), (&json!(0), &json!(10)), "{ran:?}");
    assert!(ran.stderr.contains("bench_failed") && ran.stderr.contains("10 × "), "{ran:?}");
}

#[tokio::test]
async fn an_interrupted_run_tells_what_it_has() {
    let server = server(ephemeral()).await;
    let mut command = server.cli_command().expect("a command");
    command.args(["bench", "produce", "--rate", "100", "--seconds", "600", "-o", "json"]).kill_on_drop(true);
    command.stderr(std::process::Stdio::null());
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().expect("it starts");
    under_way(&server).await;
    let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())).expect("it runs");
    kill_process(pid, Signal::INT).expect("it can be interrupted");
    let ended = timeout(Duration::from_secs(20), child.wait()).await.expect("it ends").expect("it is ours");
    assert_eq!(ended.code(), Some(130));
    let mut told = String::new();
    child.stdout.take().expect("a pipe").read_to_string(&mut told).await.expect("text");
    let report: Value = serde_json::from_str(&told).expect("one document");
    assert!(report["send"]["count"].as_u64() > Some(0) && report["send"]["failed"] == 0, "{report}");
}
