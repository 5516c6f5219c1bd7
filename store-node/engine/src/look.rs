//! Looking at messages for a filter by expression: the reading that the leader leaves to its callers.

use std::sync::Arc;

use apogee_model::Sql;
use apogee_model::store::Pop;

use crate::Engine;
use crate::leader::{Look, Verdicts};

/// Times a pop looks before it says how far it came. What it looked at is behind the group then.
pub(crate) const LOOKS_MAX: usize = 32;

impl Engine {
    /// Reads these messages, and says which of them the expression is true of. What cannot be read counts as wanted, so
    /// that a consumer hears of it as of any other message.
    pub(crate) async fn look(&self, pop: &Pop, sql: &Arc<Sql>, looks: Vec<Look>) -> Verdicts {
        let mut wanted = Vec::with_capacity(looks.len());
        for (queue, offset, place) in looks {
            let verdict = self.read(&place).await.map_or(true, |message| sql.wants(&message));
            wanted.push((queue, offset, verdict));
            // What is in memory is read without a pause.
            tokio::task::consume_budget().await;
        }
        Verdicts { group: pop.group.id, topic: pop.topic.id, sql: Arc::clone(sql), wanted }
    }
}
