//! What the consumers of a group subscribe to, all over the cluster, and whether it is the same.
//!
//! A message that one consumer filters out is passed over for its whole group, so consumers that subscribe to different
//! things lose messages. They get what they ask for all the same: operators are told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use apogee_model::ConsumerGroup;
use apogee_proto::admin::v1;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::clients::{Ask, Clients, Found};
use super::error::AdminError;
use crate::Routes;
use crate::session::{FilterKind, Subscribed, SubscriptionSet};

/// How often somebody looks.
const ROUND: Duration = Duration::from_secs(30);
/// Groups in one answer.
const GROUPS_MAX: usize = 10_000;
/// Different sets of one group in one answer.
const SETS_MAX: usize = 16;
/// Clients that are named for a set.
const NAMED_MAX: usize = 3;
/// Subscriptions of a set that a log line names.
const LOGGED_MAX: usize = 4;

type Groups = BTreeMap<(String, String), Vec<v1::SubscriptionSet>>;

impl Clients {
    pub(super) async fn subscriptions(
        &self,
        routes: &dyn Routes,
        ask: v1::ListSubscriptionsRequest,
    ) -> Result<v1::ListSubscriptionsResponse, AdminError> {
        let v1::ListSubscriptionsRequest { namespace, group, inconsistent_only, local_only } = ask;
        let one = (!group.is_empty()).then(|| ConsumerGroup::parse(&namespace, &group)).transpose()?;
        let mut found = Found::default();
        if let Some(here) = &self.here {
            found.groups.extend(here.sessions.subscriptions(one.as_ref()).into_iter().map(of_group));
        }
        if !local_only {
            let ask = v1::ListSubscriptionsRequest { namespace, group, inconsistent_only: false, local_only: true };
            found.add(self.ask_others(routes, &Ask::Subscriptions(ask)).await);
        }
        let together = together(found.groups).into_iter().filter(|(_, sets)| !inconsistent_only || sets.len() > 1);
        let groups = together
            .take(GROUPS_MAX)
            .map(|((namespace, group), sets)| v1::GroupSubscriptions { namespace, group, sets })
            .collect();
        Ok(v1::ListSubscriptionsResponse { groups, missing: found.missing })
    }

    /// Whether this proxy is the one that looks: the first of those there are. When that is not known, everybody does.
    pub(super) async fn looks(&self, routes: &dyn Routes) -> bool {
        let Some(here) = &self.here else { return false };
        let others = self.others(routes).await;
        others.map_or(true, |others| others.iter().all(|other| *here.name <= *other.name.as_str()))
    }
}

/// Makes its rounds for ever: counts the groups whose consumers subscribe to different things, and logs what is new of them.
pub(crate) async fn watch(clients: Clients, routes: Arc<dyn Routes>, inconsistent: Arc<AtomicI64>) {
    let mut rounds = interval_at(Instant::now() + ROUND, ROUND);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told: BTreeMap<(String, String), Vec<u64>> = BTreeMap::new();
    loop {
        rounds.tick().await;
        let ask = v1::ListSubscriptionsRequest { inconsistent_only: true, ..Default::default() };
        let groups = match clients.looks(&*routes).await {
            true => clients.subscriptions(&*routes, ask).await.map(|found| found.groups).unwrap_or_default(),
            false => Vec::new(),
        };
        inconsistent.store(i64::try_from(groups.len()).unwrap_or(i64::MAX), Ordering::Relaxed);
        let mut now = BTreeMap::new();
        for v1::GroupSubscriptions { namespace, group, sets } in groups {
            let mut prints: Vec<_> = sets.iter().map(|set| set.fingerprint).collect();
            prints.sort_unstable();
            let key = (namespace, group);
            if told.get(&key) != Some(&prints) {
                let (namespace, group) = &key;
                let sets = sets.iter().map(in_words).collect::<Vec<_>>().join("; ");
                tracing::warn!(
                    event = "inconsistent_subscriptions",
                    namespace,
                    group,
                    sets,
                    "consumers of a group subscribe to different things: what one filters out is passed over for all"
                );
            }
            now.insert(key, prints);
        }
        told = now;
    }
}

/// The same sets of several proxies are one.
fn together(groups: Vec<v1::GroupSubscriptions>) -> Groups {
    let mut all = Groups::new();
    for v1::GroupSubscriptions { namespace, group, sets } in groups {
        let known = all.entry((namespace, group)).or_default();
        for set in sets {
            match known.iter_mut().find(|one| one.fingerprint == set.fingerprint) {
                Some(one) => {
                    one.members = one.members.saturating_add(set.members);
                    one.clients.extend(set.clients);
                }
                None => known.push(set),
            }
        }
    }
    for sets in all.values_mut() {
        sets.sort_by_key(|set| (std::cmp::Reverse(set.members), set.fingerprint));
        sets.truncate(SETS_MAX);
        for set in sets {
            set.clients.sort();
            set.clients.dedup();
            set.clients.truncate(NAMED_MAX);
        }
    }
    all
}

fn of_group((group, sets): (ConsumerGroup, Vec<SubscriptionSet>)) -> v1::GroupSubscriptions {
    let set = |set: SubscriptionSet| v1::SubscriptionSet {
        subscriptions: set.subscriptions.first.iter().map(subscription).collect(),
        fingerprint: set.subscriptions.fingerprint,
        members: u32::try_from(set.members).unwrap_or(u32::MAX),
        clients: set.clients.iter().map(ToString::to_string).collect(),
    };
    v1::GroupSubscriptions {
        namespace: group.namespace().to_owned(),
        group: group.name().to_owned(),
        sets: sets.into_iter().map(set).collect(),
    }
}

pub(super) fn subscription(one: &Subscribed) -> v1::Subscription {
    let kind = match one.kind {
        FilterKind::Tag => v1::FilterKind::Tag,
        FilterKind::Sql92 => v1::FilterKind::Sql92,
    };
    v1::Subscription { topic: one.topic.to_string(), kind: kind.into(), expression: one.expression.to_string() }
}

/// For a log line.
fn in_words(set: &v1::SubscriptionSet) -> String {
    let mut words: Vec<_> =
        set.subscriptions.iter().take(LOGGED_MAX).map(|one| format!("{} {:?}", one.topic, one.expression)).collect();
    if set.subscriptions.len() > LOGGED_MAX {
        words.push("...".to_owned());
    }
    let some = set.clients.first().map(String::as_str).unwrap_or_default();
    format!("{} ({} consumers, {some} for one)", words.join(", "), set.members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_several_proxies_become_one() {
        let set = |fingerprint, members, clients: &[&str]| v1::SubscriptionSet {
            fingerprint,
            members,
            clients: clients.iter().map(|id| (*id).to_owned()).collect(),
            ..Default::default()
        };
        let of = |group: &str, sets| v1::GroupSubscriptions { group: group.into(), sets, ..Default::default() };
        let all = together(vec![
            of("g", vec![set(1, 2, &["a", "b"]), set(2, 1, &["c"])]),
            of("h", vec![set(1, 1, &["d"])]),
            of("g", vec![set(2, 3, &["e", "c", "x", "y"])]),
        ]);
        let of_g = &all[&(String::new(), "g".to_owned())];
        assert_eq!(of_g[..], [set(2, 4, &["c", "e", "x"]), set(1, 2, &["a", "b"])]);
        assert_eq!(all[&(String::new(), "h".to_owned())], [set(1, 1, &["d"])]);
    }
}
