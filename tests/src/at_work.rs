//! Clients at work on a real cluster: ours, whose history is judged, and the official Java SDK.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;

use crate::endure::{Connections, Endure, Endured};
use crate::grpc::{Client, Crowd, Load, judged};
use crate::history::{Call, History, Outcome, What};

/// More would only make two cores busy.
const CROWD: Crowd = Crowd { producers: 4, groups: 2, consumers: 2, pace: Duration::from_millis(10) };
/// Of our clients, each to an arbitrary proxy.
const CONNECTIONS: usize = 6;

/// Clients that send, receive and acknowledge until they are told to finish.
pub struct AtWork {
    pub history: History,
    client: Arc<Client>,
    load: Load,
    java: Endure,
}

/// What clients saw, after the judgement.
pub struct Seen {
    pub calls: Vec<Call>,
    /// Statuses other than OK that our clients got.
    pub refusals: Vec<String>,
    pub java: Endured,
}

impl AtWork {
    /// Returns when messages come and go. The topic is created by its first use.
    ///
    /// # Errors
    /// When they do not within a minute.
    pub async fn start(endpoint: &str, connections: Connections) -> anyhow::Result<AtWork> {
        let history = History::new();
        let client = Arc::new(Client::of_all(&vec![endpoint.to_owned(); CONNECTIONS], history.clone())?);
        client.create_topic().await?;
        let java = Endure::start(endpoint, connections).await?;
        let load = Load::start(Arc::clone(&client), CROWD);
        Ok(AtWork { history, client, load, java })
    }

    /// Ends the work and judges it.
    ///
    /// # Errors
    /// When something was lost, or came again after its ack; when the Java SDK does not end.
    pub async fn finish(self) -> anyhow::Result<Seen> {
        let (java, ()) = tokio::join!(self.java.finish(), self.load.finish());
        let java = java?;
        let told = judged(&self.history);
        ensure!(told.is_empty(), "violations:\n{}", told.join("\n"));
        ensure!(java.broken.is_empty(), "the Java SDK saw:\n{}", java.broken.join("\n"));
        Ok(Seen { calls: self.history.calls(), refusals: self.client.refusals(), java })
    }
}

impl Seen {
    /// Sends of the Java SDK that failed after its own attempts.
    pub fn failed_sends(&self) -> Vec<&String> {
        self.java.failed.iter().filter(|failed| failed.starts_with("failed send")).collect()
    }

    /// Calls of ours that nobody answered.
    pub fn unanswered(&self) -> usize {
        let outcome = |call: &Call| match &call.what {
            What::Send { outcome, .. } | What::Receive { outcome, .. } | What::Ack { outcome, .. } => Some(*outcome),
            _ => None,
        };
        self.calls.iter().filter(|call| outcome(call) == Some(Outcome::Indeterminate)).count()
    }

    /// All deliveries to our clients, and those that nobody wanted: after one that its consumer acked, or that no consumer
    /// saw.
    pub fn deliveries(&self) -> (usize, usize) {
        let acked: BTreeSet<_> = self
            .calls
            .iter()
            .filter_map(|call| match &call.what {
                What::Ack { group, handle, .. } => Some((group.clone(), *handle)),
                _ => None,
            })
            .collect();
        let mut received: Vec<&Call> =
            self.calls.iter().filter(|call| matches!(call.what, What::Receive { .. })).collect();
        received.sort_by_key(|call| call.span.end.order);
        let (mut all, mut again, mut last) = (0, 0, BTreeMap::new());
        for call in received {
            let What::Receive { group, deliveries, .. } = &call.what else { continue };
            for delivery in deliveries {
                let earlier = last.insert((group.clone(), delivery.message), delivery.handle);
                let unwanted = match earlier {
                    None => delivery.attempt > 1,
                    Some(handle) => acked.contains(&(group.clone(), handle)),
                };
                all += 1;
                if unwanted {
                    again += 1;
                    eprintln!("{} {} attempt {} earlier {earlier:?}", call.span, delivery.message, delivery.attempt);
                }
            }
        }
        (all, again)
    }
}
