//! Three replicas as the models want a store: when it begins again, another replica leads.

use std::time::Duration;

use apogee_engine::Engine;
use apogee_model::TopicId;
use tokio::time::{Instant, sleep};

use crate::group::{Group, LONG};

/// Of each model: a case takes twenty times as long as with one replica.
pub(crate) const CASES: u32 = 500;
pub(crate) const TEN_SECONDS: Duration = Duration::from_secs(10);

/// What nobody waits for is committed by then.
const QUIET: Duration = Duration::from_millis(200);
const GLANCE: Duration = Duration::from_millis(20);

pub(crate) struct Store {
    /// Of the replica that leads.
    pub(crate) engine: Engine,
    group: Group,
    changes: u32,
}

impl Store {
    pub(crate) async fn tiny() -> Store {
        let mut group = Group::founded(1).await;
        let engine = leader(&mut group).await;
        Store { engine, group, changes: 0 }
    }

    /// The lead is handed over, or lost together with the power of who had it, in turn.
    pub(crate) async fn restart(mut self) -> Store {
        self.changes += 1;
        if self.changes % 2 == 1 {
            self.engine.hand_over(LONG).await.expect("somebody takes over");
        } else {
            sleep(QUIET).await;
            let led = self.group.leader().await;
            self.group.lose_power(led).await;
            self.engine = leader(&mut self.group).await;
            self.group.start(led);
            self.group.all_open().await;
        }
        self.engine = leader(&mut self.group).await;
        self
    }
}

/// The engine of whoever leads, once it answers.
async fn leader(group: &mut Group) -> Engine {
    let end = Instant::now() + LONG;
    loop {
        let leader = group.leader().await;
        let engine = group.open(leader).await;
        if engine.topic_status(TopicId(1)).await.is_ok() {
            return engine;
        }
        assert!(Instant::now() < end, "nobody leads");
        sleep(GLANCE).await;
    }
}
