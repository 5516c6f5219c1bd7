//! What consumers subscribe to: as it is compared, and as people are shown it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use apogee_model::{ClientId, ConsumerGroup, Filter, HASH_START, TagFilter, Topic, hash_on};

use super::{Role, Sessions};

/// Groups that are told at a time.
const GROUPS_MAX: usize = 10_000;
/// Different sets of one group that are told.
const SETS_MAX: usize = 16;
/// Clients that are named for a set.
const NAMED_MAX: usize = 3;

/// How a filter is to be understood.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum FilterKind {
    Tag,
    Sql92,
}

/// A topic, and what of it a consumer wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subscribed {
    pub(crate) topic: Topic,
    pub(crate) kind: FilterKind,
    /// At most [`Subscribed::SHOWN`] characters of it.
    pub(crate) expression: Box<str>,
}

/// Everything that a consumer subscribes to, of which the first are remembered. Empty for whoever has not said so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Subscriptions {
    /// In order of topics.
    pub(crate) first: Box<[Subscribed]>,
    /// Of all of them, whole: every proxy finds the same for the same.
    pub(crate) fingerprint: u64,
}

/// What some consumers of a group subscribe to, alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SubscriptionSet {
    pub(crate) subscriptions: Subscriptions,
    pub(crate) members: usize,
    /// The first of them.
    pub(crate) clients: Vec<ClientId>,
}

impl Subscribed {
    /// Characters of an expression that are remembered.
    const SHOWN: usize = 256;

    fn new(topic: Topic, kind: FilterKind, whole: &str) -> Self {
        Self { topic, kind, expression: whole.chars().take(Self::SHOWN).collect::<String>().into() }
    }
}

impl Subscriptions {
    /// Subscriptions remembered per client.
    const MAX: usize = 64;

    /// Their order makes no difference, nor does that of tags.
    pub(crate) fn of(mut all: Vec<(Topic, Filter)>) -> Self {
        all.sort();
        let (mut hash, mut first) = (HASH_START, Vec::new());
        for (topic, filter) in all {
            let (kind, whole) = described(&filter);
            let kind_name = match kind {
                FilterKind::Tag => "tag",
                FilterKind::Sql92 => "sql92",
            };
            for part in [topic.namespace(), topic.name(), kind_name, &whole] {
                hash = hash_on(hash_on(hash, part.as_bytes()), &[0xff]); // no byte of a text is 0xff
            }
            if first.len() < Self::MAX {
                first.push(Subscribed::new(topic, kind, &whole));
            }
        }
        Self { fingerprint: if first.is_empty() { 0 } else { hash }, first: first.into() }
    }
}

/// A filter in words that are the same for filters that want the same.
fn described(filter: &Filter) -> (FilterKind, String) {
    match filter {
        Filter::Tags(TagFilter::All) => (FilterKind::Tag, "*".to_owned()),
        Filter::Tags(TagFilter::AnyOf(tags)) => {
            (FilterKind::Tag, tags.iter().map(String::as_str).collect::<Vec<_>>().join(" || "))
        }
        Filter::Sql(sql) => (FilterKind::Sql92, sql.text().trim().to_owned()),
    }
}

impl Sessions {
    /// What the consumers heard here subscribe to, of one group or of all.
    pub(crate) fn subscriptions(&self, of: Option<&ConsumerGroup>) -> BTreeMap<ConsumerGroup, Vec<SubscriptionSet>> {
        let mut groups: BTreeMap<ConsumerGroup, Vec<SubscriptionSet>> = BTreeMap::new();
        for (client, session) in &self.book().clients {
            let Some(Role::Consumer { group, .. }) = &session.role else { continue };
            let wanted = of.is_none_or(|of| of == group);
            if !wanted || session.subscriptions.first.is_empty() {
                continue;
            }
            let full = groups.len() >= GROUPS_MAX;
            let sets = match groups.entry(group.clone()) {
                Entry::Vacant(_) if full => continue,
                entry => entry.or_default(),
            };
            let known = sets.iter().position(|set| set.subscriptions.fingerprint == session.subscriptions.fingerprint);
            match known {
                Some(at) => {
                    let set = &mut sets[at];
                    set.members += 1;
                    if set.clients.len() < NAMED_MAX {
                        set.clients.push(client.clone());
                    }
                }
                None if sets.len() < SETS_MAX => {
                    let (subscriptions, clients) = (session.subscriptions.clone(), vec![client.clone()]);
                    sets.push(SubscriptionSet { subscriptions, members: 1, clients });
                }
                None => {}
            }
        }
        groups
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(entries: &[(&str, Filter)]) -> Subscriptions {
        let entry = |(topic, filter): &(&str, Filter)| (Topic::parse("", topic).unwrap(), filter.clone());
        Subscriptions::of(entries.iter().map(entry).collect())
    }

    fn tags(text: &str) -> Filter {
        TagFilter::parse(text).unwrap().into()
    }

    #[test]
    fn the_same_said_otherwise_is_the_same() {
        let one = of(&[("a", tags("x || y")), ("b", Filter::sql("n > 1").unwrap())]);
        assert_eq!(one, of(&[("b", Filter::sql(" n > 1").unwrap()), ("a", tags("y||x"))]));
        assert_eq!(one.first[0].expression.as_ref(), "x || y");
        assert_eq!(of(&[("a", tags("*"))]), of(&[("a", tags(""))]));
        assert_eq!(of(&[]), Subscriptions::default());
        assert_eq!(one.fingerprint, 0x81bb_dde2_5b8c_2415, "other proxies know it by that");
    }

    #[test]
    fn what_differs_has_another_fingerprint() {
        let all = [
            of(&[("a", tags("x"))]),
            of(&[("a", tags("y"))]),
            of(&[("b", tags("x"))]),
            of(&[("a", tags("x")), ("b", tags("x"))]),
            of(&[("a", Filter::sql("x = 1").unwrap())]),
            of(&[("ax", tags("*"))]),
        ];
        let prints: std::collections::BTreeSet<_> = all.iter().map(|one| one.fingerprint).collect();
        assert_eq!(prints.len(), all.len());
    }

    #[test]
    fn much_is_cut_and_still_compared() {
        let names: Vec<_> = (0..100).map(|nth| format!("t{nth:03}")).collect();
        let many = |last: &str| {
            let entries = names.iter().map(|name| (name.as_str(), tags("x"))).chain([("z", tags(last))]);
            of(&entries.collect::<Vec<_>>())
        };
        let (one, other) = (many("a"), many("b"));
        assert_eq!((one.first.len(), &one.first), (64, &other.first));
        assert_ne!(one.fingerprint, other.fingerprint);
        assert_eq!(of(&[("a", tags(&"x".repeat(1000)))]).first[0].expression.len(), 256);
    }
}
