//! `apogee group reset-offset`.

use std::str::FromStr as _;

use apogee_proto::admin::v1;
use apogee_proto::admin::v1::reset_offset_request::To;
use clap::ValueEnum;
use serde_json::{Value, json};

use super::super::confirm::Rehearsal;
use super::super::error::CliError;
use super::super::output::{Output, Table};
use super::super::target::Admin;
use super::super::topic::split;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the consumer group
    group: String,
    /// Topic in whose queues the group is to go on; of the same namespace
    #[arg(long)]
    topic: String,
    /// Where it is to go on
    #[arg(long, value_enum)]
    to: Where,
    /// With `--to timestamp`: the first message stored then or later; RFC 3339, or milliseconds since 1970
    #[arg(long, value_name = "TIME", value_parser = time, required_if_eq("to", "timestamp"))]
    timestamp: Option<prost_types::Timestamp>,
    /// With `--to offset`: for all queues, or for one; may be given more than once
    #[arg(long = "offset", value_name = "[QUEUE=]OFFSET", value_parser = offset, required_if_eq("to", "offset"))]
    offsets: Vec<v1::QueueOffset>,
    #[command(flatten)]
    rehearsal: Rehearsal,
    /// Follows the plan
    #[arg(long)]
    yes: bool,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug, ValueEnum)]
enum Where {
    /// The first message that each queue still holds
    Earliest,
    /// Behind the last message: skips what is there
    Latest,
    /// The first message stored at a time or later
    Timestamp,
    /// Offsets of your own
    Offset,
}

pub(super) async fn run(args: Args, mut admin: Admin, output: &Output) -> Result<(), CliError> {
    let (namespace, group) = split(&args.group);
    let what = format!("the progress of consumer group {} in topic {}", args.group, args.topic);
    let ask = v1::ResetOffsetRequest {
        namespace,
        group,
        topic: args.topic.clone(),
        to: Some(target(&args)?),
        dry_run: !args.follows(),
    };
    let answer = admin.api.reset_offset(ask).await.map_err(|status| CliError::call(&admin.address, status))?;
    let queues = answer.into_inner().queues;
    show(&args, &queues, output)?;
    let changes = queues.iter().any(|row| row.before != row.after || row.in_flight > 0);
    if args.follows() || args.rehearsal.dry_run && !changes {
        return Ok(());
    }
    args.rehearsal.ends_before(|| format!("{what} would change"))?;
    Err(CliError::PlanOnly { what })
}

impl Args {
    /// Whether the plan is followed.
    fn follows(&self) -> bool {
        self.yes && !self.rehearsal.dry_run
    }
}

fn target(args: &Args) -> Result<To, CliError> {
    if args.timestamp.is_some() && args.to != Where::Timestamp {
        return Err(CliError::Usage { message: "--timestamp goes with --to timestamp only".to_owned() });
    }
    if !args.offsets.is_empty() && args.to != Where::Offset {
        return Err(CliError::Usage { message: "--offset goes with --to offset only".to_owned() });
    }
    let missing = || CliError::Usage { message: "--to timestamp wants --timestamp".to_owned() };
    Ok(match args.to {
        Where::Earliest => To::Place(v1::Place::Earliest.into()),
        Where::Latest => To::Place(v1::Place::Latest.into()),
        Where::Timestamp => To::Time(args.timestamp.ok_or_else(missing)?),
        Where::Offset => To::Offsets(v1::QueueOffsets { offsets: args.offsets.clone() }),
    })
}

fn show(args: &Args, queues: &[v1::QueueReset], output: &Output) -> Result<(), CliError> {
    let mut table = Table::new(&["QUEUE", "BEFORE", "AFTER", "CHANGE", "IN_FLIGHT"]);
    for row in queues {
        let change = i128::from(row.after) - i128::from(row.before);
        table.row([
            row.queue_id.to_string(),
            row.before.to_string(),
            row.after.to_string(),
            format!("{change:+}"),
            row.in_flight.to_string(),
        ]);
    }
    let document = json!({
        "group": args.group,
        "topic": args.topic,
        "changed": args.follows(),
        "queues": queues.iter().map(document).collect::<Vec<_>>(),
    });
    Ok(output.show(&document, &table)?)
}

fn document(row: &v1::QueueReset) -> Value {
    json!({ "queue_id": row.queue_id, "before": row.before, "after": row.after, "in_flight": row.in_flight })
}

/// Milliseconds since 1970 are what other tools of RocketMQ take.
pub(crate) fn time(text: &str) -> Result<prost_types::Timestamp, String> {
    if let Ok(millis) = text.parse::<u64>() {
        let nanos = i32::try_from(millis % 1000 * 1_000_000).expect("less than a second of nanoseconds");
        return Ok(prost_types::Timestamp { seconds: i64::try_from(millis / 1000).unwrap_or(i64::MAX), nanos });
    }
    let at = prost_types::Timestamp::from_str(text);
    at.map_err(|_| format!("{text:?} is no time such as 2026-01-31T12:00:00Z, and no number of milliseconds"))
}

fn offset(text: &str) -> Result<v1::QueueOffset, String> {
    let (queue, offset) = match text.split_once('=') {
        Some((queue, offset)) => (Some(queue.parse()), offset.parse()),
        None => (None, text.parse()),
    };
    let bad = |_| format!("{text:?} is no offset, and no queue and offset such as 3=100");
    Ok(v1::QueueOffset { queue_id: queue.transpose().map_err(bad)?, offset: offset.map_err(bad)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_for_all_queues_or_for_one() {
        assert_eq!(offset("7"), Ok(v1::QueueOffset { queue_id: None, offset: 7 }));
        assert_eq!(offset("3=7"), Ok(v1::QueueOffset { queue_id: Some(3), offset: 7 }));
        for bad in ["", "=7", "3=", "a=1", "1=a", "-1", "1=2=3"] {
            assert!(offset(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_read_in_both_notations() {
        let at = prost_types::Timestamp { seconds: 1_700_000_000, nanos: 123_000_000 };
        assert_eq!(time("1700000000123"), Ok(at));
        assert_eq!(time("2023-11-14T22:13:20.123Z"), Ok(at));
        assert_eq!(time("2023-11-14T23:13:20.123+01:00"), Ok(at));
        for bad in ["", "yesterday", "-5"] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }
}
