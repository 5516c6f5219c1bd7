//! `apogee group lag`.

use apogee_proto::admin::v1;
use serde_json::{Value, json};

use super::super::error::CliError;
use super::super::output::{Output, Table};
use super::super::target::Admin;
use super::described;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the consumer group
    group: String,
    /// Only this topic
    #[arg(long)]
    topic: Option<String>,
}

/// Numbers of one queue, or sums over several.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
struct Lag {
    committed: u64,
    max_offset: u64,
    /// Messages that are not settled, those in flight included.
    lag: u64,
    in_flight: u64,
}

impl Lag {
    fn of(queue: &v1::GroupQueueProgress) -> Lag {
        let (committed, max_offset) = (queue.committed, queue.max_offset);
        Lag { committed, max_offset, lag: max_offset.saturating_sub(committed), in_flight: queue.in_flight }
    }

    fn plus(self, other: Lag) -> Lag {
        Lag {
            committed: self.committed.saturating_add(other.committed),
            max_offset: self.max_offset.saturating_add(other.max_offset),
            lag: self.lag.saturating_add(other.lag),
            in_flight: self.in_flight.saturating_add(other.in_flight),
        }
    }

    fn cells(self) -> [String; 4] {
        [self.committed, self.max_offset, self.lag, self.in_flight].map(|number| number.to_string())
    }

    fn document(self) -> Value {
        json!({
            "committed": self.committed,
            "max_offset": self.max_offset,
            "lag": self.lag,
            "in_flight": self.in_flight,
        })
    }
}

pub(super) async fn run(args: &Args, admin: &mut Admin, output: &Output) -> Result<(), CliError> {
    let (_, mut progress) = described(admin, &args.group).await?;
    if let Some(topic) = &args.topic {
        progress.retain(|queue| queue.topic == *topic);
        if progress.is_empty() {
            return Err(CliError::NeverReceived { group: args.group.clone(), topic: topic.clone() });
        }
    }
    let mut table =
        Table::new(&["GROUP", "TOPIC", "QUEUE", "COMMITTED", "MAX_OFFSET", "LAG", "IN_FLIGHT", "PULL_OFFSET"]);
    let (mut total, mut rows) = (Lag::default(), Vec::new());
    let mut row = |topic: &str, queue: String, lag: Lag, pulled: String| {
        table.row([args.group.clone(), topic.to_owned(), queue].into_iter().chain(lag.cells()).chain([pulled]));
    };
    for queue in &progress {
        let lag = Lag::of(queue);
        row(&queue.topic, queue.queue_id.to_string(), lag, pull_offset(queue));
        let mut document = lag.document();
        document["topic"] = queue.topic.as_str().into();
        document["queue_id"] = queue.queue_id.into();
        document["pull_offset"] = queue.pull_offset.into();
        rows.push(document);
        total = total.plus(lag);
    }
    row("(all)", "-".to_owned(), total, "-".to_owned());
    let whole = json!({ "name": args.group, "queues": rows, "total": total.document() });
    Ok(output.show(&whole, &table)?)
}

/// What the group committed itself, for a table.
pub(super) fn pull_offset(queue: &v1::GroupQueueProgress) -> String {
    queue.pull_offset.map_or_else(|| "-".to_owned(), |offset| offset.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_what_is_not_settled_and_sums_up() {
        let queue = |committed, max_offset, in_flight| {
            Lag::of(&v1::GroupQueueProgress { committed, max_offset, in_flight, ..v1::GroupQueueProgress::default() })
        };
        let total = queue(3, 10, 2).plus(queue(5, 5, 0));
        assert_eq!(total, Lag { committed: 8, max_offset: 15, lag: 7, in_flight: 2 });
        assert_eq!(queue(6, 5, 0).lag, 0);
    }
}
