//! The test programs of the official SDKs, in `tests/compat`; `make test` sets them up.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::time::timeout;

/// Longest run of a program; it gives up on its own earlier.
const RUN_MAX: Duration = Duration::from_secs(300);
/// Lines of the log of an SDK that a failure shows.
const COMPLAINTS_MAX: usize = 40;
/// Messages that a consumer holds, and for how many seconds.
const HELD: (&str, &str) = ("8", "80");
/// Transactions, and for how many seconds they stay open.
const UNDECIDED: (&str, &str) = ("30", "60");

/// An official SDK with a program of scenarios.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Sdk {
    Java,
    Python,
    Go,
    Node,
    Rust,
}

/// How a program speaks to the server.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    Plaintext,
    /// With the files that [`certificates`] makes in the home of the program.
    Tls,
}

/// What a program is to do.
#[derive(Copy, Clone, Debug)]
enum Work {
    Scenarios(Transport),
    /// Send, receive and hold messages for so long.
    Endure(Duration),
}

impl Sdk {
    /// How many scenarios its program has: one that silently runs fewer fails.
    fn scenarios(self) -> usize {
        match self {
            Self::Java => 27,
            Self::Python => 16,
            Self::Go | Self::Node => 15,
            Self::Rust => 5,
        }
    }

    /// What its program wants to be there: lines of the CLI.
    pub fn needs(self) -> &'static [&'static str] {
        match self {
            Self::Java => &[
                "topic create java-fifo --type fifo --queues 4",
                "group create java-fifo-push --order fifo",
                "group create java-fifo-simple --order fifo",
                "topic create java-priority --type priority --queues 4",
                "topic create java-priority-again --type priority --queues 4",
                "topic create java-lite --type lite --lite-expiration 1h",
                "group create java-lite-push --order fifo --lite-topic java-lite",
            ],
            Self::Python => &[
                "topic create python-priority --type priority --queues 4",
                "topic create python-lite --type lite --lite-expiration 1h",
                "group create python-lite-push --order fifo --lite-topic python-lite",
                "group create python-lite-simple --order fifo --lite-topic python-lite",
            ],
            Self::Go => &[
                "topic create go-priority --type priority --queues 4",
                "topic create go-lite --type lite --lite-expiration 1h",
                "group create go-lite-push --order fifo --lite-topic go-lite",
            ],
            Self::Node => &[
                "topic create node-priority --type priority --queues 4",
                "topic create node-lite --type lite --lite-expiration 1h",
                "group create node-lite-push --order fifo --lite-topic node-lite",
            ],
            Self::Rust => &[],
        }
    }

    /// Runs every scenario against the server at an endpoint, as `host:port`. With TLS, the certificate must have the host's
    /// name.
    ///
    /// # Errors
    /// With everything the program printed, unless all scenarios passed.
    pub async fn check(self, transport: Transport, endpoint: &str, home: &Path) -> anyhow::Result<()> {
        let output = self.pass(Work::Scenarios(transport), self.scenarios(), endpoint, home).await;
        output.map(drop)
    }

    /// Sends, receives and, where the SDK has push consumers, works on messages for longer than a lease, for `length`, while
    /// proxies may die: no send fails, nothing is lost, and what is worked on does not come again. Not for Java, which has
    /// [`crate::endure`]. Returns what it did, in a line.
    ///
    /// # Errors
    /// With everything the program printed.
    pub async fn endure(self, length: Duration, endpoint: &str, home: &Path) -> anyhow::Result<String> {
        let scenarios = if self == Self::Rust { 1 } else { 2 };
        let output = self.pass(Work::Endure(length), scenarios, endpoint, home).await?;
        let did = output.lines().find(|line| line.starts_with("sent "));
        Ok(did.with_context(|| format!("{self:?} does not say what it sent:\n{output}"))?.to_owned())
    }

    async fn pass(self, work: Work, scenarios: usize, endpoint: &str, home: &Path) -> anyhow::Result<String> {
        let (success, output) = run(self.program(work, endpoint, home)?).await?;
        let passed = output.lines().filter(|line| line.starts_with("PASS ")).count();
        ensure!(
            success && passed == scenarios,
            "{self:?}: {passed} of {scenarios} passed\n{output}\nits own log:\n{}",
            complaints(&home.join("logs"))
        );
        Ok(output)
    }

    /// The command line of the scenarios. Its home is a temporary folder, because SDKs write logs there.
    fn program(self, work: Work, endpoint: &str, home: &Path) -> anyhow::Result<Command> {
        let mut command = match self {
            Self::Java => java("apogee.compat.Compat", home)?,
            Self::Python => {
                let mut command = Command::new(compat_env()?.join("python/bin/python"));
                command.arg("-B").arg(ours("compat/python/compat.py"));
                command
            }
            Self::Go => Command::new(compat_env()?.join("go/compat")),
            Self::Node => {
                let mut command = Command::new("node");
                command.arg(ours("compat/node/compat.js")).env("NODE_PATH", compat_env()?.join("node/node_modules"));
                command
            }
            Self::Rust => Command::new(compat_env()?.join("rust/release/apogee-compat")),
        };
        command.arg(endpoint);
        match work {
            Work::Scenarios(Transport::Tls) => command.arg("tls"),
            Work::Scenarios(Transport::Plaintext) => command.arg("plaintext"),
            Work::Endure(length) => command.arg(format!("endure={}", length.as_secs())),
        };
        // What gRPC reads in Python and Node.js, and what Go and Rust read.
        let authorities = home.join("ca.pem");
        command.env("HOME", home);
        command.env("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", &authorities).env("SSL_CERT_FILE", authorities);
        Ok(command)
    }
}

/// The last warnings and errors that an SDK wrote below its home, where it writes what it does not tell its caller.
fn complaints(logs: &Path) -> String {
    let mut folders = vec![logs.to_owned()];
    let mut lines = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match std::fs::read(entry.path()) {
                Ok(log) => {
                    let log = String::from_utf8_lossy(&log);
                    let complains = |line: &&str| line.contains("WARN") || line.contains("ERROR");
                    lines.extend(log.lines().filter(complains).map(str::to_owned));
                }
                Err(_) => folders.push(entry.path()),
            }
        }
    }
    lines.split_off(lines.len().saturating_sub(COMPLAINTS_MAX)).join("\n")
}

/// Makes `cert.pem` and `key.pem` for a server on this machine, and `ca.pem` for its clients.
///
/// # Errors
/// When openssl fails.
pub async fn certificates(folder: &Path) -> anyhow::Result<()> {
    let mut command = Command::new(ours("setup/certificates.sh"));
    command.arg(folder);
    ensure!(timeout(RUN_MAX, command.status()).await??.success(), "openssl made no certificates");
    Ok(())
}

/// Runs a program to its end: whether it calls itself successful, and what it printed.
///
/// # Errors
/// When it does not start; with what it printed, when it does not end within five minutes.
pub async fn run(mut command: Command) -> anyhow::Result<(bool, String)> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let started = command.spawn();
    let mut child = started.with_context(|| format!("{command:?} does not start; `make test` sets it up"))?;
    let (mut stdout, mut stderr) = child.stdout.take().zip(child.stderr.take()).context("no pipes")?;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let end = async { tokio::try_join!(stdout.read_to_end(&mut out), stderr.read_to_end(&mut err), child.wait()) };
    let ended = timeout(RUN_MAX, end).await;
    let text = format!("{}{}", String::from_utf8_lossy(&out), String::from_utf8_lossy(&err));
    match ended {
        Ok(ended) => Ok((ended?.2.success(), text)),
        Err(_) => bail!("the SDK program does not end; so far it printed:\n{text}"),
    }
}

/// The Java SDK works on some messages for longer than any lease that is not renewed, and meanwhile has transactions open,
/// which it ends or is asked for.
///
/// # Errors
/// With everything the program printed, when a message came again, or not, or nobody wanted it.
pub async fn hold(endpoint: &str) -> anyhow::Result<()> {
    let held = program("apogee.compat.Hold", endpoint, HELD);
    tokio::try_join!(held, program("apogee.compat.Undecided", endpoint, UNDECIDED)).map(|_| ())
}

async fn program(class: &str, endpoint: &str, numbers: (&str, &str)) -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    let mut program = java(class, home.path())?;
    program.arg(endpoint).args([numbers.0, numbers.1]);
    let own_log = || complaints(&home.path().join("logs"));
    let (success, output) = run(program).await.with_context(|| format!("{class}; its own log:\n{}", own_log()))?;
    ensure!(success, "{class} saw:\n{output}\nits own log:\n{}", own_log());
    Ok(())
}

/// A Java program with the official SDK. Its home is `home`, because the SDK writes its logs there.
pub fn java(class: &str, home: &Path) -> anyhow::Result<Command> {
    let built = compat_env()?.join("java");
    let mut command = Command::new("java");
    command
        .arg(format!("-Duser.home={}", home.display()))
        .arg("-cp")
        .arg(format!("{0}/classes:{0}/dependency/*", built.display()))
        .arg(class)
        .env("HOME", home);
    Ok(command)
}

/// A file of the `tests` folder of the checkout: the one the tests were started in, which need not be the one they were
/// compiled in, because clones share a target folder.
pub fn ours(path: &str) -> PathBuf {
    let folder = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&folder).join(path)
}

/// Where `make test` puts what the SDKs need.
pub fn compat_env() -> anyhow::Result<PathBuf> {
    if let Some(folder) = std::env::var_os("COMPAT_ENV") {
        return Ok(folder.into());
    }
    Ok(std::env::home_dir().context("there is no home directory")?.join(".cache/apogee-test-env"))
}
