//! Runs every scenario of the official Rust SDK at once and prints `PASS name` or `FAIL name reason`.
//!
//! Usage: `apogee-compat HOST:PORT plaintext|tls|endure=SECONDS`. Exit code: 0 when all passed, 1 otherwise, 2 when called wrongly.
//! With endure it sends and receives for so long instead, by plaintext, while proxies may die.
//! With tls, `SSL_CERT_FILE` names the certificates that the SDK is to trust. Its logs go to `logs` in `HOME`.
//!
//! The published crate has no push consumer and cannot change invisible durations: of the scenarios of the Java program
//! those with `push`, `listener` and `invisible_duration` in their names are missing.

mod clients;
mod endure;
mod scenarios;

use std::any::Any;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clients::Clients;
use tokio::task::{JoinHandle, spawn};
use tokio::time::{Instant, timeout_at};

/// Deadline of the whole run; scenarios run side by side, so one late one does not delay the others.
const RUN_MAX: Duration = Duration::from_secs(150);

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [endpoint, transport] = arguments.as_slice() else {
        return usage();
    };
    let (how, seconds) = transport.split_once('=').unwrap_or((transport.as_str(), ""));
    let clients = match how {
        "plaintext" | "endure" => Clients::plaintext(endpoint),
        "tls" => Clients::tls(endpoint),
        _ => return usage(),
    };
    logs_go_home().expect("HOME is a folder of ours");
    let producer = Arc::new(clients.producer().await);
    let clients = Arc::new(clients);
    if how == "endure" {
        let length = Duration::from_secs(seconds.parse().expect("a number of seconds"));
        let endures = endure::sends_succeed_and_nothing_is_lost(clients, producer, length);
        return code(report([("sends_succeed_and_nothing_is_lost", spawn(endures))]).await);
    }
    macro_rules! running {
        ($($scenario:ident),*) => {
            [$((stringify!($scenario), spawn(scenarios::$scenario(clients.clone(), producer.clone())))),*]
        };
    }
    let running = running!(
        messages_arrive_as_sent,
        acked_message_never_comes_again,
        body_over_the_limit_is_refused,
        tag_filter_selects,
        expired_lease_is_redelivered
    );
    code(report(running).await)
}

fn code(passed: bool) -> ExitCode {
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn usage() -> ExitCode {
    eprintln!("usage: apogee-compat HOST:PORT plaintext|tls|endure=SECONDS");
    ExitCode::from(2)
}

/// The SDK writes to `logs` where the process is.
fn logs_go_home() -> std::io::Result<()> {
    let home = std::env::home_dir().ok_or(std::io::ErrorKind::NotFound)?;
    std::fs::create_dir_all(home.join("logs"))?;
    std::env::set_current_dir(home)
}

/// Prints what became of each scenario: whether all passed.
async fn report(running: impl IntoIterator<Item = (&'static str, JoinHandle<()>)>) -> bool {
    let deadline = Instant::now() + RUN_MAX;
    let mut passed = true;
    for (name, scenario) in running {
        let failure = match timeout_at(deadline, scenario).await {
            Ok(Ok(())) => None,
            Ok(Err(broken)) => Some(broken.try_into_panic().map_or_else(|error| error.to_string(), told)),
            Err(_) => Some(format!("has not ended within {RUN_MAX:?}")),
        };
        match &failure {
            None => println!("PASS {name}"),
            Some(reason) => println!("FAIL {name} {}", reason.replace('\n', " ")),
        }
        passed &= failure.is_none();
    }
    passed
}

/// What a panic said; where it was is on the standard error stream.
fn told(panic: Box<dyn Any + Send>) -> String {
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(other) => other.downcast_ref::<&str>().map_or("panicked", |text| text).to_owned(),
    }
}
