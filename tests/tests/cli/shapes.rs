//! The shapes of the output, profiles, completion, and lines of `mqadmin`.

use apogee_tests::server::ran;
use serde_json::{Value, json};

use super::{Cli, Options, ephemeral, server};

#[tokio::test]
async fn every_shape_says_the_same() {
    let server = server(ephemeral()).await;
    let cli = Cli(&server);
    cli.ok("topic create orders --queues 4").await;
    cli.ok("topic create payments --type fifo --queues 2").await;
    let table = cli.ok("topic list").await;
    assert_eq!(table.lines().next().map(|line| line.ends_with("CREATED")), Some(true), "{table}");
    let wide = cli.ok("topic list -o wide").await;
    assert!(wide.lines().next().is_some_and(|line| line.ends_with("ID")), "{wide}");
    assert_eq!(cli.ok("topic list -o name").await, "orders\npayments\n");

    let topics = cli.json("topic list").await["topics"].take();
    let lines = cli.ok("topic list -o jsonl").await;
    let lines: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str(line).expect("a line is one document")).collect();
    assert_eq!(json!(lines), topics);
    let yaml = cli.ok("topic list -o yaml").await;
    assert!(yaml.starts_with("topics:\n") && yaml.contains("name: orders") && yaml.contains("queues: 4"), "{yaml}");
    assert_eq!(cli.ok("topic create third -o name").await, "third\n");
    assert_eq!(cli.ok("topic create fourth -q").await, "");
}

#[tokio::test]
async fn colours_come_when_they_are_asked_for() {
    let server = server(ephemeral()).await;
    let cli = Cli(&server);
    assert!(!cli.ok("node list").await.contains('\u{1b}'));
    let painted = cli.ok("node list --color always").await;
    assert!(painted.contains("\u{1b}[32malive"), "{painted:?}");
    let refused = cli.run("--color always topic describe nowhere").await;
    assert!(refused.stderr.starts_with("\u{1b}[31merror:\u{1b}[0m "), "{refused:?}");
}

#[tokio::test]
async fn a_rehearsal_changes_nothing() {
    let server = server(ephemeral()).await;
    let cli = Cli(&server);
    let told = cli.refused("topic create orders --dry-run", 8, "would_change").await;
    assert_eq!(told, "topic orders would be created with 8 queues; nothing was changed");
    cli.refused("topic describe orders", 3, "not_found").await;
    cli.ok("topic create orders").await;
    cli.refused("topic create orders --dry-run", 4, "already_exists").await;
    let told = cli.refused("topic delete orders --dry-run", 8, "would_change").await;
    assert_eq!(told, "topic orders and its 0 messages would be deleted; nothing was changed");
    cli.refused("group create g --dry-run", 8, "would_change").await;
    cli.refused("group delete g --dry-run", 3, "not_found").await;
    cli.refused("node drain dev --dry-run", 8, "would_change").await;
    assert_eq!(cli.json("node list").await["nodes"][0]["standing"], "alive");
    assert_eq!(cli.ok("topic list -o name").await, "orders\n");
}

#[tokio::test]
async fn profiles_name_servers() {
    let (used, other) = (server(Options::default()).await, server(ephemeral()).await);
    let home = tempfile::tempdir().expect("a temporary folder");
    let folder = home.path().join("apogee");
    let ports = used.ports();
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::copy(used.data().join("admin.token"), folder.join("used.token")).expect("a token");
    let text = format!(
        "# mine\n[profiles.used]\nendpoint = \"127.0.0.1:{}\"\nadmin_endpoint = \"127.0.0.1:{}\"\ntoken_file = \"used.token\"\n[profiles.silent]\nadmin_endpoint = \"127.0.0.1:1\"\n",
        ports.grpc, ports.admin
    );
    std::fs::write(folder.join("config.toml"), text).expect("a file");
    let cli = async |line: &str, profile: Option<&str>| {
        // The record is that of the other server.
        let mut command = other.cli_command().expect("a command");
        command.args(line.split(' ')).env("XDG_CONFIG_HOME", home.path());
        if let Some(profile) = profile {
            command.env("APOGEE_PROFILE", profile);
        }
        ran(command).await.expect("it ends")
    };
    let names = "topic list -o name";
    assert_eq!(cli("topic create here", Some("used")).await.code, 0);
    assert_eq!(cli(names, None).await.stdout, "");
    assert_eq!(cli(&format!("{names} --profile used"), None).await.stdout, "here\n");
    assert_eq!(cli("message send here hello", Some("used")).await.code, 0);
    assert_eq!(cli("profile use used", None).await.code, 0);
    assert_eq!(cli(names, None).await.stdout, "here\n");
    assert_eq!(cli(names, Some("silent")).await.code, 6);
    let unknown = cli(names, Some("nobody")).await;
    assert!(unknown.code == 3 && unknown.stderr.contains("silent, used"), "{unknown:?}");
    let listed = cli("profile list -o json", None).await.stdout;
    let listed: Value = serde_json::from_str(&listed).expect("one document");
    assert_eq!((&listed["profiles"][1]["name"], &listed["profiles"][1]["used"]), (&json!("used"), &json!(true)));
    assert_eq!(cli("profile show -o name", None).await.stdout, "used\n");
    let text = std::fs::read_to_string(folder.join("config.toml")).expect("a file");
    assert!(text.starts_with("profile = \"used\"\n# mine\n"), "{text}");
    std::fs::write(folder.join("config.toml"), "profle = \"used\"").expect("a file");
    let wrong = cli(names, None).await;
    assert!(wrong.code == 2 && wrong.stderr.contains("config.toml") && wrong.stderr.contains("profle"), "{wrong:?}");
}

#[tokio::test]
async fn shells_get_their_scripts() {
    let server = server(ephemeral()).await;
    let cli = Cli(&server);
    for (shell, word) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef apogee"),
        ("fish", "complete -c apogee"),
        ("powershell", "Register-ArgumentCompleter"),
        ("nushell", "export extern"),
    ] {
        let script = cli.ok(&format!("completion {shell}")).await;
        assert!(script.contains(word) && script.contains("exit-when-healthy"), "{shell}");
        assert!(!script.contains("updateTopic"), "{shell}");
    }
    cli.refused("completion tcsh", 2, "usage").await;
}

#[tokio::test]
async fn lines_of_mqadmin_do_what_they_say() {
    let server = server(ephemeral()).await;
    let cli = Cli(&server);
    let made = cli.run("updateTopic -c DefaultCluster -t orders -r 4 -w 4").await;
    assert_eq!((made.code, made.stdout.as_str()), (0, "topic orders created\n"), "{made:?}");
    assert!(
        made.stderr.ends_with("hint: the line for this is `apogee topic create --or-alter orders --queues 4`\n"),
        "{made:?}"
    );
    assert_eq!(cli.run("updateTopic -t orders -w 6 -p 4").await.code, 0); // it exists: altered
    let altered = cli.json("topic describe orders").await;
    assert_eq!((&altered["queues"], &altered["permission"]), (&json!(6), &json!("read")));
    let other_type = cli.run("updateTopic -t orders -a +message.type=FIFO").await;
    assert_eq!(other_type.code, 4, "{other_type:?}");
    assert_eq!(cli.ok("topicList -o name -q").await, "orders\n");
    assert_eq!(cli.ok("topicRoute -t orders --no-headers -q").await.lines().count(), 6);
    assert!(cli.ok("clusterList -m -q").await.contains("broker-0"));
    assert_eq!(cli.run("updateSubGroup -g g -c C -o true -q").await.code, 0);
    assert_eq!(cli.json("group describe g").await["order"], "fifo");
    let told = cli.refused("topicList -n 127.0.0.1:9876", 2, "usage").await;
    assert!(told.contains("--admin-endpoint"), "{told}");
    let admin = format!("127.0.0.1:{}", server.ports().admin);
    let listed = cli.run(&format!("topicList -n 127.0.0.1:9876 --admin-endpoint {admin} -o name")).await;
    assert_eq!((listed.code, listed.stdout.as_str()), (0, "%DLQ%g\norders\n"), "{listed:?}");
    cli.refused("deleteTopic -t orders", 2, "not_confirmed").await;
    assert_eq!(cli.run("deleteTopic -t orders -c C --yes").await.code, 0);
}
