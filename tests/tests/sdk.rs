//! The official SDKs, unmodified, against a real `apogee dev`: what their users rely on, in plaintext and with TLS.
//!
//! The scenarios are programs in the language of the SDK, in `tests/compat/`; `make test` sets them up.

use anyhow::{Context, ensure};
use apogee_tests::sdk::{Sdk, Transport, certificates};
use apogee_tests::server::{Options, Server, has_level};
use tokio::sync::RwLock;

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
    let checked = sdk.check(transport, server.ports().grpc, folder.path()).await;
    checked.with_context(|| format!("server log:\n{}", server.log().unwrap_or_default()))?;
    let ended = server.stop().await?;
    let log = server.log()?;
    ensure!(ended.success(), "the server ended with {ended}; its log:\n{log}");
    ensure!(log.lines().any(|line| has_level(line, "INFO")), "that is no log:\n{log}");
    let errors = server.errors()?;
    ensure!(errors.is_empty(), "errors in the server log:\n{}", errors.join("\n"));
    Ok(())
}
