//! This store-node as namesrv sees it: it registers, lets itself be heard every second, and says when it stops.

use std::time::Duration;

use apogee_host::health::{Check, Health};
use apogee_host::{Exit, ExitWith, OnError, Tasks};
use apogee_model::{MetadataError, NewNode, NodeName};
use apogee_namesrv::{BEAT, NamesrvClient};
use tokio::sync::{oneshot, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

/// The name of the check.
pub(super) const NAMESRV: &str = "namesrv";
/// Tries to say goodbye to a namesrv that does not answer, of 5 s each.
const GOODBYES_MAX: usize = 2;

/// Two processes with one name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("another process registered as store-node {name}; each needs a node.name of its own")]
pub(super) struct Twin {
    name: NodeName,
}

impl ExitWith for Twin {
    fn exit(&self) -> Exit {
        Exit::Usage
    }
}

/// The way to stop in turn.
pub(super) struct Membership {
    leaving: watch::Sender<bool>,
    left: oneshot::Receiver<()>,
}

/// The task behind it.
struct Member {
    client: NamesrvClient,
    node: NewNode,
    health: Health,
    leaving: watch::Receiver<bool>,
    left: oneshot::Sender<()>,
}

/// Registers `node`, now and whenever namesrv does not know it. Not ready before the first time; after that it stays as
/// it was, however long namesrv is away.
pub(super) fn join(client: NamesrvClient, node: NewNode, health: &Health, tasks: &Tasks) -> Membership {
    health.set(NAMESRV, Check::fail("not registered yet"));
    let (sender, leaving) = watch::channel(false);
    let (left, leaves) = oneshot::channel();
    let member = Member { client, node, health: health.clone(), leaving, left };
    tasks.spawn("member", OnError::StopProcess, member.run(tasks.token()));
    Membership { leaving: sender, left: leaves }
}

impl Membership {
    /// Waits until every replica group keeps a majority without this store-node, but not longer than `wait`, and tells
    /// namesrv that it stops.
    pub(super) async fn leave(self, wait: Duration) {
        let _the_task_has_ended = self.leaving.send(true);
        if timeout(wait, self.left).await.is_err() {
            tracing::warn!(
                event = "left_out_of_turn",
                ?wait,
                "another store-node is away for long; this one stops too"
            );
        }
    }
}

impl Member {
    async fn run(self, stop: CancellationToken) -> Result<(), Twin> {
        stop.run_until_cancelled(self.live()).await.unwrap_or(Ok(()))
    }

    async fn live(mut self) -> Result<(), Twin> {
        let mut beats = interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut registered, mut trouble, mut goodbyes) = (false, None, 0);
        loop {
            tokio::select! {
                _ = beats.tick() => {}
                Ok(()) = self.leaving.changed() => {}
            }
            if *self.leaving.borrow() {
                match self.client.leave_in_turn(&self.node.name, self.node.incarnation).await {
                    Err(MetadataError::NoTurn { group }) => {
                        tracing::info!(event = "waits_for_its_turn", %group, "a replica group needs this store-node");
                    }
                    Err(error) if goodbyes < GOODBYES_MAX => {
                        tracing::warn!(event = "goodbye_lost", %error, "namesrv does not hear that this store-node stops");
                        goodbyes += 1;
                    }
                    Ok(()) | Err(_) => {
                        let _nobody_waits = self.left.send(());
                        return Ok(());
                    }
                }
            }
            let outcome = match registered {
                true => self.client.heartbeat(&self.node.name, self.node.incarnation).await,
                false => self.client.register(self.node.clone()).await.map(drop),
            };
            match outcome {
                Ok(()) => {
                    if !std::mem::replace(&mut registered, true) {
                        tracing::info!(event = "registered", node = %self.node.name, "namesrv knows this store-node");
                        self.health.set(NAMESRV, Check::ok());
                    }
                    trouble = None;
                }
                Err(MetadataError::OtherIncarnation { node: name }) => return Err(Twin { name }),
                Err(MetadataError::NoSuchNode { .. }) => registered = false,
                Err(error) if trouble.as_ref() != Some(&error) => {
                    tracing::warn!(event = "namesrv_away", %error, registered, "namesrv does not hear this store-node");
                    if !registered {
                        self.health.set(NAMESRV, Check::fail(error.to_string()));
                    }
                    trouble = Some(error);
                }
                Err(_) => {}
            }
        }
    }
}
