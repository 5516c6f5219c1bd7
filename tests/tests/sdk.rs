//! The official SDKs, unmodified, against a real `apogee dev`: what their users rely on, in plaintext and with TLS.
//!
//! The scenarios are programs in the language of the SDK, in `tests/compat/`; `make test` sets them up.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use apogee_tests::sdk::{Sdk, Transport, certificates, java};
use apogee_tests::server::{Options, Server, has_level};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::sync::RwLock;
use tokio::time::timeout;

/// The start of a Java machine takes a whole processor, and its SDK gives up clients that are not there within three
/// seconds, so it has the machine for itself; the others mostly wait, and share it.
static MACHINE: RwLock<()> = RwLock::const_new(());

#[tokio::test]
async fn the_java_sdk() -> anyhow::Result<()> {
    let _alone = MACHINE.write().await;
    check(Sdk::Java, Transport::Plaintext).await.context("in plaintext")?;
    check(Sdk::Java, Transport::Tls).await.context("with TLS")
}

#[tokio::test]
async fn the_python_sdk() -> anyhow::Result<()> {
    check_both(Sdk::Python).await
}

#[tokio::test]
async fn the_go_sdk() -> anyhow::Result<()> {
    check_both(Sdk::Go).await
}

#[tokio::test]
async fn the_node_sdk() -> anyhow::Result<()> {
    check_both(Sdk::Node).await
}

#[tokio::test]
async fn the_rust_sdk() -> anyhow::Result<()> {
    check_both(Sdk::Rust).await
}

/// Somebody looks into a push consumer of the Java SDK: its threads, and what it makes of messages it did not ask for. It is
/// told of altered settings meanwhile, and takes no harm.
#[tokio::test]
async fn the_java_sdk_answers_an_operator() -> anyhow::Result<()> {
    let _alone = MACHINE.write().await;
    let server = Server::start(Options::default()).await?;
    let cli = async |line: &str| server.cli(&line.split(' ').collect::<Vec<_>>()).await;
    for line in ["topic create open --type normal --queues 1", "message send open work", "message send open fail"] {
        let ran = cli(line).await?;
        ensure!(ran.code == 0, "{line}: {ran:?}");
    }
    let home = tempfile::tempdir()?;
    let mut open = java("apogee.compat.Open", home.path())?;
    open.arg(server.endpoint()).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut open = open.spawn()?;
    let mut lines = BufReader::new(open.stdout.take().context("a pipe")?).lines();
    let mut next = async || timeout(Duration::from_secs(60), lines.next_line()).await?.map_err(anyhow::Error::from);
    ensure!(next().await?.as_deref() == Some("ready"), "it does not start");

    let listed: Value = serde_json::from_str(&cli("client list --group open-push -o json").await?.stdout)?;
    let client = &listed["clients"][0];
    let id = client["id"].as_str().context("a client")?;
    ensure!(client["language"] == "java" && client["subscriptions"][0]["expression"] == "none", "{listed}");
    for attempts in [3, 4] {
        let stack = cli(&format!("client stack {id}")).await?;
        ensure!(stack.code == 0 && stack.stdout.contains("java.lang."), "{stack:?}");
        let ran = cli(&format!("group alter open-push --max-attempts {attempts}")).await?;
        ensure!(ran.code == 0, "{ran:?}");
        let verify =
            |offset| format!("message verify open --queue 0 --offset {offset} --client {id} --group open-push");
        let consumed = cli(&verify(0)).await?;
        ensure!(consumed.code == 0 && consumed.stdout.contains("consumed"), "{consumed:?}");
        let failed = cli(&verify(1)).await?;
        ensure!(failed.code == 1 && failed.stdout.contains("FAILED_TO_CONSUME_MESSAGE"), "{failed:?}");
        let worked = [next().await?, next().await?].map(Option::unwrap_or_default);
        ensure!(worked == ["worked work", "worked fail"], "{worked:?}");
    }
    drop(open.stdin.take());
    let ended = timeout(Duration::from_secs(60), open.wait()).await??;
    ensure!(ended.success(), "{ended}");
    Ok(())
}

/// With both transports at once, because the programs mostly wait.
async fn check_both(sdk: Sdk) -> anyhow::Result<()> {
    let _beside_others = MACHINE.read().await;
    let (plaintext, tls) = tokio::join!(check(sdk, Transport::Plaintext), check(sdk, Transport::Tls));
    plaintext.context("in plaintext")?;
    tls.context("with TLS")
}

/// Every scenario of this SDK passes on a fresh server, whose log then holds no ERROR.
async fn check(sdk: Sdk, transport: Transport) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut options = Options::default();
    if transport == Transport::Tls {
        certificates(folder.path()).await?;
        options.tls = Some((folder.path().join("cert.pem"), folder.path().join("key.pem")));
    }
    let mut server = Server::start(options).await?;
    for line in sdk.needs() {
        let ran = server.cli(&line.split(' ').collect::<Vec<_>>()).await?;
        ensure!(ran.code == 0, "{line}: {ran:?}");
    }
    // SDKs check the name against the certificate.
    let host = if transport == Transport::Tls { "localhost" } else { "127.0.0.1" };
    let endpoint = format!("{host}:{}", server.ports().grpc);
    let checked = sdk.check(transport, &endpoint, folder.path()).await;
    checked.with_context(|| format!("server log:\n{}", server.log().unwrap_or_default()))?;
    let ended = server.stop().await?;
    let log = server.log()?;
    ensure!(ended.success(), "the server ended with {ended}; its log:\n{log}");
    ensure!(log.lines().any(|line| has_level(line, "INFO")), "that is no log:\n{log}");
    let errors = server.errors()?;
    ensure!(errors.is_empty(), "errors in the server log:\n{}", errors.join("\n"));
    Ok(())
}
