//! The cluster, its store-nodes, and where the queues of a topic are.

use std::time::Duration;

use apogee_tests::cluster::{Cluster, Shape};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{Cli, ephemeral, server};

#[tokio::test]
async fn a_cluster_of_one_process_is_whole() {
    let server = server(ephemeral()).await;
    let cli = Cli(&server);
    cli.ok("topic create orders --queues 4").await;
    let info = cli.json("cluster info").await;
    let node = json!({
        "name": "dev",
        "standing": "alive",
        "zone": "",
        "lanes": "",
        "replication": "",
        "replicas": ["broker-0"],
        "leads": ["broker-0"],
        "moves": [],
    });
    assert_eq!(info["nodes"], json!([node]));
    assert_eq!(info["replica_groups"][0]["leader_node"], "dev");
    assert_eq!((&info["topics"], &info["replica_groups"][0]["queues"]), (&json!(1), &json!(4)));
    assert_eq!((&info["namesrv"][0]["leads"], &info["problems"]), (&json!(true), &json!([])));
    assert_eq!(info["cluster_id"].as_str().map(str::len), Some(16));
    let table = cli.ok("cluster info").await;
    for title in ["CLUSTER", "NAMESRV\n", "STORE-NODES\n", "REPLICA GROUPS\n", "broker-0"] {
        assert!(table.contains(title), "{title} in {table}");
    }

    assert_eq!(cli.json("cluster health").await, json!({ "health": "healthy", "problems": [] }));
    assert_eq!(cli.ok("cluster health --exit-when-healthy").await, "healthy\n");
}

#[tokio::test]
async fn a_cluster_without_a_leader_is_unhealthy() {
    let shape = Shape { namesrvs: 1, stores: 1, replication_factor: 1, proxies: 1 };
    let mut cluster = Cluster::start(shape, &[]).await.expect("the cluster starts");
    let health = ["cluster", "health", "-o", "json"];
    let healthy = cluster.cli(0, &["cluster", "health", "--exit-when-healthy"]).await.expect("it ends");
    assert_eq!(healthy.code, 0, "{healthy:?}");
    cluster.stores[0].kill().await.expect("it runs");
    let unhealthy = async {
        loop {
            let health = cluster.cli(0, &health).await.expect("it ends");
            if health.code != 0 {
                return health;
            }
        }
    };
    let health = timeout(Duration::from_secs(30), unhealthy).await.expect("it is noticed soon");
    assert_eq!(health.code, 7, "{health:?}");
    let told: Value = serde_json::from_str(&health.stdout).expect("one document");
    assert_eq!((&told["health"], &told["problems"][0]["subject"]), (&json!("unhealthy"), &json!("broker-0")));
    assert_eq!(told["problems"][0]["kind"], "no_leader");
    assert!(health.stderr.contains("\"code\":\"unhealthy\""), "{health:?}");

    let wait = ["cluster", "health", "--exit-when-healthy", "--timeout", "1s"];
    let waited = cluster.cli(0, &wait).await.expect("it ends");
    assert_eq!(waited.code, 7, "{waited:?}");
    assert!(waited.stdout.starts_with("unhealthy; nobody is known to lead broker-0"), "{waited:?}");
}

#[tokio::test]
async fn a_watch_ends_by_an_interrupt() {
    let server = server(ephemeral()).await;
    let mut watch = server.cli_command().expect("a command");
    watch.args(["cluster", "health", "--watch"]).stdout(std::process::Stdio::piped()).kill_on_drop(true);
    let mut child = watch.stderr(std::process::Stdio::null()).spawn().expect("it starts");
    let mut first = [0; 8];
    let mut stdout = child.stdout.take().expect("a pipe");
    tokio::io::AsyncReadExt::read_exact(&mut stdout, &mut first).await.expect("a first word");
    assert_eq!(&first, b"healthy\n");
    let pid = child.id().and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed())).expect("it runs");
    rustix::process::kill_process(pid, Signal::INT).expect("it can be interrupted");
    let ended = timeout(Duration::from_secs(10), child.wait()).await.expect("it ends").expect("it is ours");
    assert_eq!(ended.code(), Some(130));
}

#[tokio::test]
async fn store_nodes_are_drained_and_stay_after_all() {
    let server = server(ephemeral()).await;
    let cli = Cli(&server);
    assert_eq!(cli.ok("node list -o name").await, "dev\n");
    let told = cli.ok("node drain dev").await;
    assert_eq!(told, "store-node dev is draining; 1 replica to go, see `apogee node describe dev`\n");
    let described = cli.json("node describe dev").await;
    assert_eq!((&described["standing"], &described["leads"]), (&json!("draining"), &json!(["broker-0"])));
    let why = "store-node dev drains, but no other could take its replica of broker-0";
    let health = cli.run("cluster health -o json").await;
    let told: Value = serde_json::from_str(&health.stdout).expect("one document");
    let problem = json!({ "kind": "node_cannot_drain", "subject": "dev", "detail": why });
    assert_eq!((health.code, &told["problems"]), (7, &json!([problem])));
    let waited = cli.run("node drain dev --wait=1s").await;
    assert_eq!((waited.code, waited.stdout), (6, format!("{why}\n")));
    assert!(waited.stderr.starts_with(&format!("error: {why}\nnext: ")), "{}", waited.stderr);
    let told = cli.refused("node remove dev --dry-run", 4, "conflict").await;
    assert_eq!(told, "store-node dev is draining, and not drained");
    let told = cli.refused("node remove dev --yes", 4, "conflict").await;
    assert_eq!(told, "store-node dev keeps 1 replicas; drain it, and wait until it keeps none");
    cli.refused("node remove dev", 2, "not_confirmed").await;
    cli.ok("node drain dev --dry-run").await; // it is drained: nothing would change
    assert_eq!(cli.ok("node undrain dev").await, "store-node dev stays\n");
    assert_eq!(cli.json("node describe dev").await["standing"], "alive");
    for line in ["node describe s9", "node drain s9 --wait", "node undrain s9", "node remove s9 --yes"] {
        assert_eq!(cli.refused(line, 3, "not_found").await, "there is no store-node \"s9\"");
    }
}

#[tokio::test]
async fn a_topic_shows_where_its_queues_are_and_what_they_hold() {
    let server = server(ephemeral()).await;
    let cli = Cli(&server);
    cli.ok("topic create orders --queues 2").await;
    for body in ["a", "b", "c"] {
        cli.ok(&format!("message send orders {body}")).await;
    }
    let stats = cli.json("topic stats orders").await;
    assert_eq!(stats, json!({ "name": "orders", "queues": 2, "stored": 3, "ever_sent": 3, "delayed": 0 }));
    let route = cli.json("topic route orders").await;
    let queue = json!({ "queue_id": 1, "replica_group": "broker-0", "leader_node": "dev", "leader_replica": 1 });
    assert_eq!((&route["queues"][1], route["queues"].as_array().map(Vec::len)), (&queue, Some(2)));
    let queues = cli.json("topic queues orders").await["queues"].take();
    let stored = queues.as_array().into_iter().flatten().filter_map(|queue| queue["stored"].as_u64());
    assert_eq!(stored.sum::<u64>(), 3, "{queues}");
    cli.refused("topic route nowhere", 3, "not_found").await;
    cli.refused("topic stats nowhere", 3, "not_found").await;
}

#[tokio::test]
async fn a_group_shows_how_far_it_is_behind() {
    let server = server(ephemeral()).await;
    let cli = Cli(&server);
    cli.ok("topic create orders --queues 1").await;
    cli.ok("topic create others --queues 1").await;
    cli.ok("message send orders a").await;
    cli.ok("message receive orders --group g").await;
    cli.ok("message send orders b").await;
    cli.ok("message send orders c").await;
    cli.refused("message receive others --group g --timeout 100ms", 3, "message_not_found").await;
    let lag = cli.json("group lag g").await;
    assert_eq!(lag["total"], json!({ "committed": 1, "max_offset": 3, "lag": 2, "in_flight": 0 }), "{lag}");
    let lag = cli.json("group lag g --topic orders").await;
    assert_eq!((&lag["queues"][0]["topic"], &lag["queues"][0]["lag"]), (&json!("orders"), &json!(2)));
    let table = cli.ok("group lag g --no-headers").await;
    assert_eq!(table.lines().last().map(|line| line.split_whitespace().nth(5)), Some(Some("2")), "{table}");
    cli.refused("group lag g --topic elsewhere", 3, "not_found").await;
    cli.refused("group lag nobody", 3, "not_found").await;
}

#[tokio::test]
async fn a_topic_grows_and_its_consumers_see_all_of_it() {
    let server = server(ephemeral()).await;
    let cli = Cli(&server);
    cli.ok("topic create orders --queues 1").await;
    cli.refused("message receive orders --group g --timeout 100ms", 3, "message_not_found").await;
    cli.refused("topic alter orders --queues 4 --dry-run", 8, "would_change").await;
    let told = cli.ok("topic alter orders --queues 4").await;
    assert_eq!(told, "topic orders has 4 queues and permission read-write\n");
    cli.ok("topic alter orders --queues 4 --dry-run").await;
    for body in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        cli.ok(&format!("message send orders {body}")).await;
    }
    let queues = cli.json("topic queues orders").await["queues"].take();
    let used = queues.as_array().into_iter().flatten().filter(|queue| queue["stored"] != 0);
    assert_eq!(used.count(), 4, "{queues}");
    let mut came = 0;
    while came < 8 {
        came += cli.ok("message receive orders --group g --no-headers").await.lines().count();
    }
    assert_eq!(cli.json("group lag g").await["total"]["lag"], 0);

    let told = cli.refused("topic alter orders --queues 2", 2, "invalid_argument").await;
    assert!(told.contains('2') && told.contains('4'), "{told}");
    cli.ok("topic alter orders --permission read").await;
    cli.refused("message send orders x", 5, "forbidden").await;
    cli.refused("topic alter orders", 2, "usage").await;
    cli.refused("topic alter nowhere --queues 3", 3, "not_found").await;
    cli.ok("topic create lite --type lite").await;
    let told = cli.refused("topic alter lite --queues 9", 4, "conflict").await;
    assert!(told.contains("lite topics"), "{told}");
}

#[tokio::test]
async fn message_groups_wait_for_their_new_queues_until_the_old_ones_are_consumed() {
    let server = server(ephemeral()).await;
    let cli = Cli(&server);
    cli.ok("topic create line --type fifo --queues 1").await;
    assert_eq!(cli.ok("topic alter line --queues 2").await, "topic line has 2 queues and permission read-write\n");
    cli.ok("group create workers --order fifo").await;
    cli.ok("message send line a --message-group g").await;
    assert_eq!(cli.json("message receive line --group workers").await["body"], json!("a"));
    cli.ok("message send line b --message-group g").await;
    let told = cli.ok("topic alter line --queues 16").await;
    assert!(told.contains("has 2 queues") && told.contains("gets 16 queues"), "{told}");
    let topic = cli.json("topic describe line").await;
    assert_eq!((&topic["queues"], &topic["growing_to"]), (&json!(2), &json!(16)), "{topic}");
    let send = "message send line c --message-group g";
    let refused = cli.refused(send, 6, "too_many_requests").await;
    assert!(refused.contains("more queues"), "{refused}");
    let told = cli.ok("topic alter line --queues 2").await;
    assert_eq!(told, "topic line has 2 queues and permission read-write\n", "somebody thought better of it");
    cli.ok("message send line b2 --message-group g").await;
    cli.ok("topic alter line --queues 16").await;
    let (sent, received) = tokio::join!(cli.ok(send), cli.ok("message receive line --group workers --no-headers"));
    assert_eq!((received.lines().count(), sent.is_empty()), (2, false), "it waited for the queues: {received}");
    let topic = cli.json("topic describe line").await;
    assert_eq!((&topic["queues"], &topic["growing_to"]), (&json!(16), &json!(null)), "{topic}");
    assert_eq!(cli.json("message receive line --group workers").await["body"], json!("c"));
}
