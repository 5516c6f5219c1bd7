//! `apogee client stack`.

use std::time::Duration;

use apogee_proto::admin::v1;
use serde_json::json;

use super::super::error::CliError;
use super::super::output::{Output, line, plain};
use super::super::target::Admin;

/// What the client has of the time that the command has.
pub(in crate::cli) fn wait_ms(timeout: Option<Duration>) -> u32 {
    let wait = timeout.map(|timeout| timeout.saturating_sub(Duration::from_millis(500)).max(timeout / 2));
    wait.map_or(0, |wait| u32::try_from(wait.as_millis()).unwrap_or(u32::MAX).max(1))
}

pub(super) async fn run(
    client: String,
    timeout: Option<Duration>,
    admin: &mut Admin,
    output: &Output,
) -> Result<(), CliError> {
    let ask = v1::PrintThreadStackRequest { client, wait_ms: wait_ms(timeout), local_only: false };
    let answer = admin.api.print_thread_stack(ask.clone()).await;
    let said = answer.map_err(|status| CliError::call(&admin.address, status))?.into_inner();
    if !output.item(&json!({ "client": ask.client, "proxy": said.proxy, "stack": said.stack }))? {
        said.stack.lines().try_for_each(|text| line(&plain(&text.replace('\t', "    "))))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_gives_up_before_the_command_does() {
        let wait = |millis| wait_ms(Some(Duration::from_millis(millis)));
        assert_eq!((wait_ms(None), wait(6000), wait(800), wait(0)), (0, 5500, 400, 1));
    }
}
