//! The binary as its users meet it: `apogee dev`, then the commands, their output and their exit codes.

#[path = "cli/bench.rs"]
mod bench;
#[path = "cli/cluster.rs"]
mod cluster;
#[path = "cli/dlq.rs"]
mod dlq;
#[path = "cli/find.rs"]
mod find;
#[path = "cli/lite.rs"]
mod lite;
#[path = "cli/sessions.rs"]
mod sessions;
#[path = "cli/shapes.rs"]
mod shapes;
#[path = "cli/transaction.rs"]
mod transaction;

use apogee_tests::server::{Options, Ports, Ran, Server, command, get, ran};
use serde_json::{Value, json};

async fn server(options: Options) -> Server {
    Server::start(options).await.expect("the server starts")
}

fn ephemeral() -> Options {
    Options { ephemeral: true, ..Options::default() }
}

impl Cli<'_> {
    async fn run(&self, line: &str) -> Ran {
        self.0.cli(&line.split(' ').collect::<Vec<_>>()).await.expect("the command runs to its end")
    }

    /// Runs a line that must succeed, and returns what it printed.
    async fn ok(&self, line: &str) -> String {
        let ran = self.run(line).await;
        assert_eq!(ran.code, 0, "{line}: {ran:?}");
        assert_eq!(ran.stderr, "", "{line}");
        ran.stdout
    }

    async fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.ok(&format!("{line} -o json")).await).expect("one document")
    }

    /// Runs a line that must fail with `exit`, and returns its error in JSON; people get the same in two lines.
    async fn refused(&self, line: &str, exit: i32, code: &str) -> String {
        let ran = self.run(&format!("{line} -o json")).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (exit, ""), "{line}: {ran:?}");
        let error = serde_json::from_str::<Value>(&ran.stderr).expect("one document")["error"].take();
        assert_eq!(error["code"], code, "{line}: {error}");
        for key in ["message", "hint", "request_id"] {
            assert!(error[key].as_str().is_some_and(|text| !text.is_empty()), "{line}: {key} in {error}");
        }
        error["message"].as_str().unwrap_or_default().to_owned()
    }
}

struct Cli<'a>(&'a Server);

#[tokio::test]
async fn topics_from_creation_to_deletion() {
    let server = server(ephemeral()).await;
    let cli = Cli(&server);
    assert_eq!(cli.ok("topic list --no-headers").await, "\n");
    for kind in ["normal", "fifo", "delay", "transaction", "priority", "lite", "mixed"] {
        let told = cli.ok(&format!("topic create t-{kind} --type {kind} --queues 2")).await;
        assert_eq!(told, format!("topic t-{kind} created\n"));
    }
    let described = cli.json("topic describe t-fifo").await;
    assert_eq!((&described["type"], &described["queues"]), (&json!("fifo"), &json!(2)));
    let queue = |id| json!({ "queue_id": id, "min_offset": 0, "max_offset": 0 });
    assert_eq!(described["queue_stats"], json!([queue(0), queue(1)]));
    let listed = cli.json("topic list").await;
    assert_eq!(listed["topics"].as_array().map(Vec::len), Some(7));
    let table = cli.ok("topic list").await;
    assert!(table.starts_with("NAME           TYPE         QUEUES  CREATED"), "{table}");

    let told = cli.refused("topic create t-fifo --type fifo", 4, "already_exists").await;
    assert_eq!(told, "topic t-fifo exists already");
    let told = cli.refused("topic create t-wide --queues 1025", 2, "invalid_argument").await;
    assert!(told.contains("1025") && told.contains("1024"), "{told}");
    let told = cli.refused("topic create a.b", 2, "invalid_argument").await;
    assert!(told.contains("a.b"), "{told}");
    cli.refused("topic create t-x --type odd", 2, "usage").await;
    cli.refused("topic describe nowhere", 3, "not_found").await;

    cli.refused("topic delete t-fifo", 2, "not_confirmed").await;
    assert_eq!(cli.ok("topic delete t-fifo --yes").await, "topic t-fifo deleted\n");
    cli.refused("topic delete t-fifo --yes", 3, "not_found").await;
}

#[tokio::test]
async fn groups_from_creation_to_deletion() {
    let server = server(ephemeral()).await;
    let cli = Cli(&server);
    assert_eq!(cli.ok("group create g1 --order fifo --max-attempts 3").await, "consumer group g1 created\n");
    assert_eq!(cli.ok("group create g2").await, "consumer group g2 created\n");
    let described = cli.json("group describe g1").await;
    assert_eq!((&described["order"], &described["max_attempts"]), (&json!("fifo"), &json!(3)));
    assert_eq!(described["progress"], json!([]));
    let listed = cli.json("group list").await;
    assert_eq!((&listed["groups"][1]["name"], &listed["groups"][1]["max_attempts"]), (&json!("g2"), &json!(17)));

    assert_eq!(described["priority_factor"], json!(100));
    let made = cli.json("group create g3 --priority-factor 80").await;
    assert_eq!(made["priority_factor"], json!(80));
    assert_eq!(cli.json("group alter g3 --priority-factor 0").await["priority_factor"], json!(0));
    assert_eq!(cli.json("group describe g3").await["priority_factor"], json!(0));
    let told = cli.refused("group alter g3 --priority-factor 101", 2, "invalid_argument").await;
    assert!(told.contains("priority factor is 101, allowed are 0 to 100"), "{told}");

    cli.refused("group create g1", 4, "already_exists").await;
    let told = cli.refused("group create g4 --max-attempts 0", 2, "invalid_argument").await;
    assert!(told.contains('0') && told.contains('1'), "{told}");
    cli.refused("group delete g1", 2, "not_confirmed").await;
    cli.ok("group delete g1 --yes").await;
    cli.refused("group describe g1", 3, "not_found").await;
}

#[tokio::test]
async fn a_delayed_message_comes_later_or_is_recalled() {
    let server = server(ephemeral()).await;
    let cli = Cli(&server);
    cli.ok("topic create later --type delay --queues 1").await;
    let far = cli.json("message send later never --delay 1h").await;
    let handle = far["recall_handle"].as_str().expect("a handle").to_owned();
    let near = cli.json("message send later soon --delay 1s").await;
    let at_once = cli.json("message send later now --at 2020-01-01T00:00:00Z").await;
    assert_eq!(at_once["recall_handle"], Value::Null);
    assert_eq!(cli.json("message receive later").await["message_id"], at_once["message_id"]);
    assert_eq!(cli.json("topic stats later").await["delayed"], json!(2));
    assert_eq!(cli.json("message receive later").await["message_id"], near["message_id"]);
    let told = cli.ok(&format!("message recall later {handle}")).await;
    assert_eq!(told, format!("recalled {} from later\n", far["message_id"].as_str().expect("an id")));
    cli.refused(&format!("message recall later {}", &handle[1..]), 2, "bad_request").await;
    assert_eq!(cli.json("topic stats later").await["delayed"], json!(0));
    cli.refused("message send later x --delay 41d", 2, "illegal_delivery_time").await;
}

#[tokio::test]
async fn the_most_urgent_message_comes_first() {
    let server = server(ephemeral()).await;
    let cli = Cli(&server);
    cli.ok("topic create urgent --type priority --queues 3").await;
    for (priority, body) in [(0, "low"), (9, "high"), (1, "middle")] {
        cli.ok(&format!("message send urgent {body} --priority {priority}")).await;
    }
    let got = cli.ok("message receive urgent -o jsonl").await;
    let got: Vec<Value> = got.lines().map(|line| serde_json::from_str(line).expect("a document")).collect();
    let told: Vec<_> = got.iter().map(|one| (&one["body"], &one["priority"], &one["queue_id"])).collect();
    let wanted = [(json!("high"), 9, 2), (json!("middle"), 1, 1), (json!("low"), 0, 0)];
    let wanted = wanted.map(|(body, priority, queue)| (body, json!(priority), json!(queue)));
    assert_eq!(told, wanted.each_ref().map(|(body, priority, queue)| (body, priority, queue)));
    cli.refused("message send urgent x --priority=-1", 2, "usage").await;
    cli.refused("message send urgent x", 2, "message_property_conflict_with_type").await;
}

#[tokio::test]
async fn a_message_goes_in_and_comes_out_once() {
    let server = server(ephemeral()).await;
    let cli = Cli(&server);
    let sent = cli.json("message send demo hello --tag red --key k1 --key k2 --property colour=a=b").await;
    let got = cli.json("message receive demo").await;
    assert_eq!(got["message_id"], sent["message_id"]);
    assert_eq!((&got["body"], &got["tag"], &got["keys"]), (&json!("hello"), &json!("red"), &json!(["k1", "k2"])));
    assert_eq!((&got["properties"], &got["delivery_attempt"]), (&json!({ "colour": "a=b" }), &json!(1)));
    let told = cli.refused("message receive demo --timeout 200ms", 3, "message_not_found").await;
    assert_eq!(told, "no message came from demo for group apogee-cli within 200ms");

    let progress = cli.json("group describe apogee-cli").await["progress"].take();
    let committed = progress.as_array().into_iter().flatten().filter_map(|row| row["committed"].as_u64());
    assert_eq!(committed.sum::<u64>(), 1, "{progress}");
}

#[tokio::test]
async fn an_expression_chooses_what_comes() {
    let server = server(ephemeral()).await;
    let cli = Cli(&server);
    for size in ["4", "6", "many"] {
        cli.ok(&format!("message send demo {size} --property size={size}")).await;
    }
    assert_eq!(cli.json("message receive demo --sql size>5").await["body"], "6");
    let told = cli.refused("message receive demo --sql size>>5", 2, "illegal_filter_expression").await;
    assert!(told.contains("character 6"), "{told}");
    cli.refused("message receive demo --sql size>5 --tag red", 2, "usage").await;
}

#[tokio::test]
async fn tags_and_groups_choose_what_comes() {
    let server = server(ephemeral()).await;
    let cli = Cli(&server);
    cli.ok("message send demo red --tag red").await;
    cli.ok("message send demo blue --tag blue").await;
    let blue = cli.ok("message receive demo --group g1 --tag blue||green --no-headers").await;
    assert_eq!(blue.lines().filter_map(|line| line.split_whitespace().nth(3)).collect::<Vec<_>>(), ["blue"]);
    let mut all: Vec<_> = Vec::new();
    while all.len() < 2 {
        let lines = cli.ok("message receive demo --group g2 --no-headers").await;
        all.extend(lines.lines().filter_map(|line| Some(line.split_whitespace().nth(3)?.to_owned())));
    }
    all.sort();
    assert_eq!(all, ["blue", "red"]);
}

#[tokio::test]
async fn who_is_connected_is_shown() {
    let server = server(ephemeral()).await;
    let cli = Cli(&server);
    assert_eq!(cli.ok("client list --no-headers").await, "\n");
    cli.ok("message send demo hello").await;
    cli.ok("message receive demo --group g1").await;
    let listed = cli.json("client list").await;
    let [client] = &listed["clients"].as_array().expect("a list")[..] else { panic!("{listed}") };
    assert_eq!((&client["language"], &client["kind"]), (&json!("rust"), &json!("unknown")));
    let id = client["id"].as_str().expect("an id");
    assert_eq!(cli.json(&format!("client describe {id}")).await["clients"][0]["id"], id);
    assert_eq!(cli.json("client list --group g1").await["clients"], json!([]), "it has not said what it is");
    cli.refused("client describe nobody", 3, "not_found").await;
    cli.refused("client list --group n/g --topic t", 2, "usage").await;
}

#[tokio::test]
async fn bad_messages_and_unknown_names_are_refused_with_a_code() {
    let server = server(Options { no_auto_create: true, ..ephemeral() }).await;
    let cli = Cli(&server);
    cli.refused("message send nowhere hello", 3, "topic_not_found").await;
    cli.refused("message receive nowhere --timeout 5s", 3, "topic_not_found").await;
    cli.ok("topic create demo").await;
    cli.refused("message send demo hello --tag a|b", 2, "illegal_message_tag").await;
    cli.refused("message receive demo --tag ||", 2, "illegal_filter_expression").await;
    let told = cli.refused("message receive demo --timeout 21s", 2, "usage").await;
    assert!(told.contains("21s"), "{told}");
    cli.refused("message send demo hello --property novalue", 2, "usage").await;
}

#[tokio::test]
async fn the_admin_api_wants_the_token() {
    let server = server(Options::default()).await;
    let cli = Cli(&server);
    let token = server.data().join("admin.token");
    cli.ok(&format!("topic list --token-file {}", token.display())).await;
    let wrong = server.data().join("wrong.token");
    std::fs::write(&wrong, "ab".repeat(32)).expect("the folder takes files");
    let line = format!("topic list --token-file {}", wrong.display());
    let told = cli.refused(&line, 5, "unauthenticated").await;
    assert_eq!(told, "the admin token is not the one of this cluster");
    cli.refused("topic list --token-file /nonexistent", 5, "no_token").await;
}

#[tokio::test]
async fn a_wrong_port_is_told() {
    let server = server(ephemeral()).await;
    let cli = Cli(&server);
    let (grpc, admin) = (server.endpoint(), format!("127.0.0.1:{}", server.ports().admin));
    let told = cli.refused(&format!("topic list --admin-endpoint {grpc}"), 1, "unimplemented").await;
    assert_eq!(told, format!("{grpc} does not serve this API"));
    let told = cli.refused(&format!("message send q x --endpoint {admin}"), 1, "unimplemented").await;
    assert_eq!(told, format!("{admin} does not serve this API"));
}

#[tokio::test]
async fn the_shape_of_the_output_may_come_first() {
    let server = server(ephemeral()).await;
    let cli = Cli(&server);
    let told = |text: &str| serde_json::from_str::<Value>(text).expect("one document");
    assert_eq!(told(&cli.ok("-o json topic list").await)["topics"], json!([]));
    assert_eq!(cli.ok("--no-headers topic list").await, "\n");
    assert!(told(&cli.ok("--output=json version").await)["version"].is_string());
    let missing = cli.run("-o json topic describe nowhere").await;
    assert_eq!((missing.code, &told(&missing.stderr)["error"]["code"]), (3, &json!("not_found")));
}

#[tokio::test]
async fn a_silent_address_is_unavailable() {
    let mut server = server(Options::default()).await;
    let token = server.data().join("admin.token").display().to_string();
    let (admin, grpc) = (format!("127.0.0.1:{}", server.ports().admin), server.endpoint());
    assert!(server.stop().await.expect("the server stops").success());
    let cli = Cli(&server);
    cli.refused(&format!("topic list --admin-endpoint {admin} --token-file {token}"), 6, "unavailable").await;
    cli.refused(&format!("message send demo hello --endpoint {grpc}"), 6, "unavailable").await;
    cli.refused("message send demo hello --endpoint nonsense", 2, "bad_address").await;
    cli.refused(&format!("topic list --admin-endpoint {admin}"), 6, "unavailable").await;
    let told = cli.refused("topic list", 6, "unavailable").await;
    assert!(told.starts_with("no running server is known"), "{told}");
}

#[tokio::test]
async fn data_outlive_a_kill_and_a_stop() {
    let mut server = server(Options::default()).await;
    Cli(&server).ok("topic create kept --queues 3").await;
    let sent = Cli(&server).json("message send kept hello").await;
    server.kill().await.expect("the process can be killed");
    server.restart().await.expect("the server starts again");
    assert_eq!(Cli(&server).json("topic describe kept").await["queues"], 3);
    assert!(server.stop().await.expect("the server stops").success());
    server.restart().await.expect("the server starts again");
    assert_eq!(Cli(&server).json("message receive kept").await["message_id"], sent["message_id"]);
}

#[tokio::test]
async fn damage_is_told_with_the_data_folder() {
    let mut server = server(Options::default()).await;
    Cli(&server).ok("message send demo hello").await;
    assert!(server.stop().await.expect("the server stops").success());
    let segment = "store/log/00000000000000000000.seg";
    let mut bytes = std::fs::read(server.data().join(segment)).expect("there is a first segment");
    bytes[8] ^= 1;
    std::fs::write(server.data().join(segment), bytes).expect("the folder takes files");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = Options { data: Some(server.data()), ..Options::default() };
    let any = Ports { grpc: 0, admin: 0, metrics: 0, health: 0 };
    let refused = ran(command(&options, folder.path(), any).expect("a command")).await.expect("it ends");
    assert_eq!(refused.code, 74, "{refused:?}");
    let told = format!("error: in data folder {}: {segment} is corrupt", server.data().display());
    assert!(refused.stderr.starts_with(&told), "{}", refused.stderr);
}

#[tokio::test]
async fn a_stop_answers_parked_polls_now() {
    let mut server = server(ephemeral()).await;
    let mut receive = server.cli_command().expect("a command");
    receive.args(["message", "receive", "demo", "--group", "parked"]);
    let stop = async {
        while Cli(&server).json("group list").await["groups"] == json!([]) {}
        server.stop().await.expect("the server stops within its grace")
    };
    let (received, stopped) = tokio::join!(ran(receive), stop);
    assert_eq!(received.expect("it ends").code, 3);
    assert!(stopped.success());
}

#[tokio::test]
async fn a_data_folder_has_one_process_and_one_version() {
    let mut first = server(Options::default()).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = Options { data: Some(first.data()), ..Options::default() };
    let any = Ports { grpc: 0, admin: 0, metrics: 0, health: 0 };
    let second = ran(command(&options, folder.path(), any).expect("a command")).await.expect("it ends");
    assert_eq!(second.code, 64, "{second:?}");
    assert!(second.stderr.starts_with("error: another process uses "), "{}", second.stderr);
    assert!(second.stderr.contains(&*first.data().to_string_lossy()), "{}", second.stderr);

    assert!(first.stop().await.expect("the server stops").success());
    std::fs::write(first.data().join("FORMAT"), "apogee-data 9.0\n").expect("the folder takes files");
    let newer = ran(command(&options, folder.path(), any).expect("a command")).await.expect("it ends");
    assert_eq!(newer.code, 64, "{newer:?}");
    assert!(newer.stderr.contains("apogee-data 9.0"), "{}", newer.stderr);
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let first = server(ephemeral()).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let taken = Ports { grpc: first.ports().grpc, admin: 0, metrics: 0, health: 0 };
    let second = ran(command(&ephemeral(), folder.path(), taken).expect("a command")).await.expect("it ends");
    assert_eq!(second.code, 75, "{second:?}");
    let told = format!("error: port {} of 127.0.0.1 is in use", taken.grpc);
    assert!(second.stderr.starts_with(&told), "{}", second.stderr);
}

#[tokio::test]
async fn health_and_metrics_answer() {
    let server = server(ephemeral()).await;
    let ports = server.ports();
    for page in ["/livez", "/readyz", "/startupz", "/version"] {
        assert_eq!(get(ports.health, page).await.expect("an answer").code, 200, "{page}");
    }
    let ready = get(ports.health, "/readyz").await.expect("an answer").body;
    let ready: Value = serde_json::from_str(&ready).expect("JSON");
    assert_eq!(ready["status"], "ok");
    let metrics = get(ports.metrics, "/metrics").await.expect("an answer");
    assert!(
        metrics.code == 200 && metrics.body.contains("apogee_build_info{") && metrics.body.contains("commit=\""),
        "{metrics:?}"
    );
    assert!(!server.log().expect("a log").contains("\"level\":\"ERROR\""));
}

#[tokio::test]
async fn an_ephemeral_server_leaves_nothing() {
    let mut server = server(ephemeral()).await;
    let log = server.log().expect("a log");
    let ready = log.lines().map(|line| serde_json::from_str::<Value>(line).expect("a JSON line"));
    let ready = ready.into_iter().find(|line| line["event"] == "ready").expect("the story of the start");
    let data = std::path::PathBuf::from(ready["data"].as_str().expect("a folder"));
    assert!(data.join("FORMAT").is_file());
    assert!(server.stop().await.expect("the server stops").success());
    assert!(!data.exists());
}

#[tokio::test]
async fn the_configuration_is_checked_and_printed() {
    let any = Ports { grpc: 0, admin: 0, metrics: 0, health: 0 };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let run = async |args: &[&str], env: &[(&str, &str)]| {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let options = Options { args, env, ..Options::default() };
        ran(command(&options, folder.path(), any).expect("a command")).await.expect("it ends")
    };
    let printed = run(&["--print-config", "--set", "cluster.name=c1"], &[]).await;
    assert_eq!(printed.code, 0, "{printed:?}");
    for line in ["grpc.port = 0 # env", "cluster.name = \"c1\" # flag", "listen = \"127.0.0.1\" # default"] {
        assert!(printed.stdout.lines().any(|it| it == line), "{line} is missing in\n{}", printed.stdout);
    }
    assert_eq!(run(&["--check-config"], &[]).await.code, 0);
    let unknown = run(&["--check-config"], &[("APOGEE_GRPC__PROT", "1")]).await;
    assert_eq!(unknown.code, 64);
    let told = "error: unknown key grpc.prot (env), the nearest valid key is grpc.port\n";
    assert_eq!(unknown.stderr, told);
    assert_eq!(run(&["--no-such-flag"], &[]).await.code, 64);
    let bad = run(&[], &[("APOGEE_TLS__CERT", "/nonexistent.pem")]).await;
    let told = "error: tls.cert and tls.key go together, only one is set; set both, or none for a self-signed \
                certificate\n";
    assert_eq!((bad.code, bad.stderr.as_str()), (64, told));
    let missing = [("APOGEE_TLS__CERT", "/nonexistent.pem"), ("APOGEE_TLS__KEY", "/nonexistent.key")];
    for args in [&["--check-config"][..], &[]] {
        let bad = run(args, &missing).await;
        assert_eq!(bad.code, 64, "{bad:?}");
        assert!(bad.stderr.starts_with("error: /nonexistent.pem cannot be read: "), "{}", bad.stderr);
        assert!(bad.stderr.contains("tls.key") && !folder.path().join("data").exists(), "{}", bad.stderr);
    }
}

/// Receives for `apogee-cli` until so many messages came; returns their bodies in order, and every attempt.
async fn receive_all(cli: &Cli<'_>, count: usize) -> (Vec<String>, Vec<String>) {
    let (mut bodies, mut attempts) = (Vec::new(), Vec::new());
    while bodies.len() < count {
        for line in cli.ok("message receive demo --no-headers").await.lines() {
            let mut words = line.split_whitespace().skip(1);
            attempts.extend(words.next().map(str::to_owned));
            bodies.extend(words.nth(1).map(str::to_owned));
        }
    }
    bodies.sort();
    (bodies, attempts)
}

#[tokio::test]
async fn a_group_goes_on_where_it_is_told_to() {
    let server = server(ephemeral()).await;
    let cli = Cli(&server);
    cli.ok("topic create demo --queues 1").await;
    for body in ["a", "b", "c"] {
        cli.ok(&format!("message send demo {body}")).await;
    }
    receive_all(&cli, 3).await;
    let reset = "group reset-offset apogee-cli --topic demo";
    let row = |before, after| json!([{ "queue_id": 0, "before": before, "after": after, "in_flight": 0 }]);

    let plan = cli.run(&format!("{reset} --to earliest -o json")).await;
    let told: Value = serde_json::from_str(&plan.stdout).expect("one document");
    assert_eq!((plan.code, &told["changed"], &told["queues"]), (2, &json!(false), &row(3, 0)), "{plan:?}");
    assert!(plan.stderr.contains("not_confirmed"), "{plan:?}");
    assert_eq!(cli.run(&format!("{reset} --to earliest --dry-run")).await.code, 8);
    assert_eq!(cli.run(&format!("{reset} --to latest --dry-run")).await.code, 0, "it is there already");
    cli.refused("message receive demo --timeout 200ms", 3, "message_not_found").await;

    let table = cli.ok(&format!("{reset} --to earliest --yes")).await;
    assert_eq!(table, "QUEUE  BEFORE  AFTER  CHANGE  IN_FLIGHT\n0      3       0      -3      0\n");
    let (bodies, attempts) = receive_all(&cli, 3).await;
    assert_eq!((bodies, attempts), (["a", "b", "c"].map(str::to_owned).into(), vec!["1".to_owned(); 3]));
    let done = cli.json(&format!("{reset} --to offset --offset 0=2 --yes")).await;
    assert_eq!((&done["changed"], &done["queues"]), (&json!(true), &row(3, 2)));
    assert_eq!(receive_all(&cli, 1).await.0, ["c"]);
    let future = cli.json(&format!("{reset} --to timestamp --timestamp 2100-01-01T00:00:00Z --yes")).await;
    assert_eq!(future["queues"], row(3, 3));
    let past = cli.json(&format!("{reset} --to timestamp --timestamp 1700000000000 --yes")).await;
    assert_eq!(past["queues"], row(3, 0));

    cli.refused("group reset-offset nobody --topic demo --to latest --yes", 3, "not_found").await;
    cli.refused("group reset-offset apogee-cli --topic nowhere --to latest --yes", 3, "not_found").await;
    cli.refused(&format!("{reset} --to offset --offset 1=0 --yes"), 2, "invalid_argument").await;
    for wrong in
        ["--to offset", "--to timestamp", "--to latest --offset 1", "--to earliest --timestamp 1", "--to there"]
    {
        cli.refused(&format!("{reset} {wrong} --yes"), 2, "usage").await;
    }
}

#[tokio::test]
async fn messages_are_looked_at_without_being_consumed() {
    let server = server(ephemeral()).await;
    let cli = Cli(&server);
    cli.ok("topic create demo --queues 1").await;
    cli.ok("message send demo first").await;
    let sent = cli.json("message send demo hello --tag red --key k1 --property colour=blue").await;
    let id = sent["message_id"].as_str().expect("an id");
    for line in [format!("message get demo {id}"), "message get demo --queue 0 --offset 1".to_owned()] {
        let found = cli.json(&line).await;
        assert_eq!((&found["message_id"], &found["queue_offset"]), (&sent["message_id"], &json!(1)));
        assert_eq!((&found["body"], &found["tag"], &found["keys"]), (&json!("hello"), &json!("red"), &json!(["k1"])));
        assert_eq!(found["properties"], json!({ "colour": "blue" }));
        let table = cli.ok(&line).await;
        assert!(table.lines().any(|line| line.split_whitespace().eq(["BODY", "hello"])), "{table}");
    }
    let unknown = format!("{}{}", &id[..26], "FFFFFFFF");
    let told = cli.refused(&format!("message get demo {unknown}"), 3, "not_found").await;
    assert_eq!(told, format!("topic demo holds no message with id {unknown}"));
    cli.refused("message get demo --queue 0 --offset 2", 3, "not_found").await;
    cli.refused("message get demo --queue 9 --offset 0", 2, "invalid_argument").await;
    cli.refused("message get demo nonsense", 2, "invalid_argument").await;
    cli.refused("message get demo", 2, "usage").await;
    cli.refused("message tail nowhere", 3, "not_found").await;

    let mut tail = server.cli_command().expect("a command");
    tail.args(["message", "tail", "demo", "--tag", "red", "--count", "2", "-o", "json"]);
    // It tells nobody when it has begun.
    let sending = async {
        loop {
            cli.ok("message send demo again --tag red").await;
            cli.ok("message send demo other --tag blue").await;
        }
    };
    let tailed = tokio::select! {
        tailed = ran(tail) => tailed.expect("it ends"),
        () = sending => unreachable!("it goes on"),
    };
    assert_eq!((tailed.code, tailed.stderr.as_str()), (0, ""));
    let told: Vec<Value> = tailed.stdout.lines().map(|line| serde_json::from_str(line).expect("a document")).collect();
    assert!(told.len() == 2 && told.iter().all(|found| found["body"] == "again"), "{told:?}");
    assert_eq!(receive_all(&cli, 2).await.0.iter().filter(|body| *body == "first").count(), 1);
}
