//! The official SDKs, unmodified, against a real `apogee dev`: what their users rely on, in plaintext and with TLS.
//!
//! The scenarios are programs in the language of the SDK, in `tests/compat/`; `make test` sets them up.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use apogee_tests::sdk::{compat_env, java, ours};
use apogee_tests::server::{Options, Server, has_level};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::timeout;

/// Longest run of a program; it gives up on its own earlier.
const RUN_MAX: Duration = Duration::from_secs(180);

#[derive(Copy, Clone)]
enum Sdk {
    Java,
    Python,
    Go,
    Node,
    Rust,
}

impl Sdk {
    /// How many scenarios its program has: one that silently runs fewer fails.
    fn scenarios(self) -> usize {
        match self {
            Self::Java | Self::Python | Self::Go | Self::Node => 11,
            Self::Rust => 5,
        }
    }
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum Transport {
    Plaintext,
    Tls,
}

#[tokio::test]
async fn the_java_sdk() -> anyhow::Result<()> {
    // One after the other: the start of a Java machine takes a whole processor, and this SDK gives up when it is slow.
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
    let (success, output) = run(program(sdk, transport, server.ports().grpc, &folder)?).await?;
    let passed = output.lines().filter(|line| line.starts_with("PASS ")).count();
    let scenarios = sdk.scenarios();
    let all = success && passed == scenarios;
    ensure!(all, "server log:\n{}\n{passed} of {scenarios} passed\n{output}", server.log()?);
    let ended = server.stop().await?;
    let log = server.log()?;
    ensure!(ended.success(), "the server ended with {ended}; its log:\n{log}");
    ensure!(log.lines().any(|line| has_level(line, "INFO")), "that is no log:\n{log}");
    let errors = server.errors()?;
    ensure!(errors.is_empty(), "errors in the server log:\n{}", errors.join("\n"));
    Ok(())
}

/// The command line of the scenarios. Its home is a temporary folder, because SDKs write logs there.
fn program(sdk: Sdk, transport: Transport, port: u16, folder: &TempDir) -> anyhow::Result<Command> {
    let home = folder.path();
    let mut command = match sdk {
        Sdk::Java => java("apogee.compat.Compat", home)?,
        Sdk::Python => {
            let mut command = Command::new(compat_env()?.join("python/bin/python"));
            command.arg("-B").arg(ours("compat/python/compat.py"));
            command
        }
        Sdk::Go => Command::new(compat_env()?.join("go/compat")),
        Sdk::Node => {
            let mut command = Command::new("node");
            command.arg(ours("compat/node/compat.js")).env("NODE_PATH", compat_env()?.join("node/node_modules"));
            command
        }
        Sdk::Rust => Command::new(compat_env()?.join("rust/release/apogee-compat")),
    };
    match transport {
        // The name, not the address, because SDKs check it against the certificate.
        Transport::Tls => command.arg(format!("localhost:{port}")).arg("tls"),
        Transport::Plaintext => command.arg(format!("127.0.0.1:{port}")).arg("plaintext"),
    };
    // What gRPC reads in Python and Node.js, and what Go and Rust read.
    let authorities = home.join("ca.pem");
    command.env("HOME", home).env("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", &authorities).env("SSL_CERT_FILE", authorities);
    Ok(command)
}

async fn certificates(folder: &Path) -> anyhow::Result<()> {
    let mut command = Command::new(ours("setup/certificates.sh"));
    command.arg(folder);
    ensure!(timeout(RUN_MAX, command.status()).await??.success(), "openssl made no certificates");
    Ok(())
}

/// Runs a program to its end: whether it calls itself successful, and what it printed.
async fn run(mut command: Command) -> anyhow::Result<(bool, String)> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(RUN_MAX, command.output())
        .await
        .context("the SDK program does not end")?
        .with_context(|| format!("{command:?} does not start; `make test` sets it up"))?;
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Ok((output.status.success(), text))
}
