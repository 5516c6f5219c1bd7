//! What is over: lite topics nobody wrote to for long, and subscriptions nobody renewed.

use std::time::Duration;

use apogee_host::Monotonic;
use apogee_model::TopicId;

use super::has_lites;
use crate::leader::{Leader, Now};
use crate::record::{LiteChanged, LiteGone, Record};
use crate::state::{LITE_QUEUE, Subscriber};

/// How often the leader looks.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// and how soon when there was more than one look takes.
const LOOK_SOON: Duration = Duration::from_millis(20);
/// Lite topics that go together.
const GONE_MAX: usize = 512;
/// A client that says for this long nothing about its subscriptions has none any more.
///
/// Source: apache/rocketmq 5.5 `BrokerConfig.java` (liteSubscriptionCheckTimeoutMills).
const SUBSCRIBED_FOR: Duration = Duration::from_secs(180);

impl Leader {
    /// When [`Leader::expire_lites`] has something to do.
    pub(in crate::leader) fn lites_due(&self) -> Option<Monotonic> {
        has_lites(&self.state).then_some(self.lites.look_at)
    }

    pub(in crate::leader) fn expire_lites(&mut self, now: Now) {
        if now.monotonic < self.lites.look_at || !has_lites(&self.state) {
            return;
        }
        self.lites.evicted.retain(|_, (since, _)| now.monotonic.saturating_sub(*since) < SUBSCRIBED_FOR);
        let full = self.drop_old_lites(now) >= GONE_MAX;
        self.drop_silent_clients(now);
        self.lites.look_at = now.monotonic + if full { LOOK_SOON } else { LOOK_EVERY };
    }

    /// A topic is gone: its lite topics go some at a time.
    pub(in crate::leader) fn drop_lites(&mut self, parent: TopicId, now: Now) {
        if self.state.lites_of(parent, None).next().is_some() {
            self.lite_expires(parent, Some(Duration::ZERO), now);
            self.lites.look_at = now.monotonic;
        }
    }

    /// Says how many.
    fn drop_old_lites(&mut self, now: Now) -> usize {
        // A message that is on its way keeps its lite topic.
        let stays = |id: &TopicId| self.overlay.next_offset(*id, LITE_QUEUE).is_some();
        let over = self.state.lites_over(now.wall).filter(|id| !self.lites.leaving.contains(id) && !stays(id));
        let ids: Vec<_> = over.take(GONE_MAX).collect();
        let count = ids.len();
        if count > 0 {
            self.lites.leaving.extend(ids.iter().copied());
            self.propose(Record::LiteGone(LiteGone { ids }), now);
        }
        count
    }

    fn drop_silent_clients(&mut self, now: Now) {
        let silent = |of: &Subscriber| {
            self.lites.refreshed.get(of).is_none_or(|at| now.monotonic.saturating_sub(*at) >= SUBSCRIBED_FOR)
        };
        for of in self.state.lite_clients().filter(silent).collect::<Vec<_>>() {
            self.unsubscribe_all(of, now);
        }
    }

    /// The client is subscribed to nothing any more.
    pub(super) fn unsubscribe_all(&mut self, of: Subscriber, now: Now) {
        let Some(client) = self.state.lite_client(of).cloned() else { return };
        let ids: Vec<_> = self.state.lite_subscriptions(of).collect();
        self.propose_subscriptions((of, client.parent, &client.id), LiteChanged::Removed, &ids, now);
    }

    /// The client ended.
    pub(in crate::leader) fn lites_lost(&mut self, client: u64, now: Now) {
        for of in self.state.lite_clients().filter(|of| of.1 == client).collect::<Vec<_>>() {
            self.unsubscribe_all(of, now);
        }
    }
}
