use std::convert::Infallible;
use std::io;
use std::process::Command;

use rustix::process::{Signal, getpid, kill_process};
use tokio::sync::Notify;

use super::*;
use crate::tasks::OnError;

const LONG: Duration = Duration::from_secs(60);

fn ladder() -> Ladder {
    Ladder { health: Health::new(&[]), tasks: Tasks::new(), drain_max: LONG, close_max: LONG }
}

fn signal(signal: Signal) {
    kill_process(getpid(), signal).expect("a process may signal itself");
}

/// One test for all, because a signal reaches every listener of the test process.
#[tokio::test]
async fn signals_and_failed_tasks_start_the_walk() {
    one_signal_walks_and_a_second_one_ends_the_walk().await;
    a_failed_task_gives_the_code().await;
}

async fn one_signal_walks_and_a_second_one_ends_the_walk() {
    let down = ladder();
    let (health, tasks) = (down.health.clone(), down.tasks.clone());
    let mut signals = Signals::install().expect("signals can be caught");
    signal(Signal::TERM);
    let exit = down.run(&mut signals, async || {
        assert!(!*health.ready().borrow(), "readiness goes first");
        assert!(!tasks.token().is_cancelled(), "tasks go last");
        Ok(())
    });
    assert_eq!(exit.await, Exit::Clean);
    assert!(tasks.token().is_cancelled());

    let mut signals = Signals::install().expect("signals can be caught");
    signal(Signal::INT);
    let exit = ladder().run(&mut signals, async || {
        signal(Signal::TERM);
        std::future::pending().await
    });
    assert_eq!(exit.await, Exit::Clean);
}

async fn a_failed_task_gives_the_code() {
    let down = ladder();
    let drained = Notify::new();
    down.tasks.spawn("engine", OnError::StopProcess, async { Err(io::Error::other("disk gone")) });
    let mut signals = Signals::install().expect("signals can be caught");
    let exit = down.run(&mut signals, async || {
        drained.notify_one();
        Err(Stop::new(Exit::Dependency, "a later failure"))
    });
    assert_eq!(exit.await, Exit::Io);
    drained.notified().await;
}

#[tokio::test(start_paused = true)]
async fn late_steps_do_not_hold_the_process() {
    let down = ladder();
    down.tasks.spawn("deaf", OnError::LogAndEnd, std::future::pending::<Result<(), Infallible>>());
    assert_eq!(down.walk(std::future::pending()).await, Exit::Clean);
    let failing = async { Err(Stop::new(Exit::Io, "sync failed")) };
    assert_eq!(ladder().walk(failing).await, Exit::Io);
}

/// The hook ends the process, so the test runs itself once more and looks at the end of that one.
#[test]
fn a_panic_is_logged_and_ends_the_process_with_70() {
    const CHILD: &str = "APOGEE_TEST_PANIC";
    if std::env::var_os(CHILD).is_some() {
        tracing_subscriber::fmt().with_ansi(false).init();
        install_panic_hook();
        panic!("announced by the test");
    }
    let name = "shutdown::tests::a_panic_is_logged_and_ends_the_process_with_70";
    let me = std::env::current_exe().expect("a test knows its file");
    let child = Command::new(me).args(["--exact", name, "--nocapture"]).env(CHILD, "1").output().expect("it starts");
    let output = String::from_utf8_lossy(&child.stdout);
    assert_eq!(child.status.code(), Some(70), "{output}");
    assert!(output.contains("ERROR") && output.contains("panic: announced by the test"), "{output}");
    assert!(output.contains("location") && output.contains("tests.rs"), "{output}");
}
