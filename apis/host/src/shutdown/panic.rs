//! A panic ends the process: half a process is worse than none.

use std::io::Write;
use std::panic::PanicHookInfo;

use crate::exit::Exit;

/// From now on a panic in any thread or task is logged, and the process ends with [`Exit::Bug`].
pub fn install_panic_hook() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if tracing::dispatcher::has_been_set() {
            log(panic);
        } else {
            before(panic);
        }
        let _best_effort = (std::io::stdout().flush(), std::io::stderr().flush());
        std::process::exit(Exit::Bug.code().into());
    }));
}

fn log(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("no message");
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    tracing::error!(event = "panic", location, thread = thread.name().unwrap_or("unnamed"), "panic: {message}");
}
