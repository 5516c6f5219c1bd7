use apogee_host::{Entropy as _, SeededEntropy};

use super::*;

const FACTOR: u32 = 3;

/// Store-nodes by number: `3~` drains and keeps replicas, `3-` drains and keeps none, `3` stays.
fn nodes(text: &str) -> BTreeMap<Ordinal, Node> {
    let node = |word: &str| {
        let (standing, keeps) = match word.as_bytes().last() {
            Some(b'~') => (Standing::Drains, 2),
            Some(b'-') => (Standing::Drained, 0),
            _ => (Standing::Stays, 2),
        };
        let ordinal = word.trim_end_matches(['~', '-']).parse().expect("a number");
        (ordinal, Node { standing, keeps, stuck: None })
    };
    text.split_whitespace().map(node).collect()
}

/// `wanted`, what the StatefulSet is to have, all its pods there.
fn seen(wanted: u32, replicas: u32, known: &str, leaving: &[Ordinal]) -> Seen {
    Seen {
        wanted,
        replicas,
        pods: (0..replicas).collect(),
        nodes: nodes(known),
        leaving: leaving.iter().copied().collect(),
        factor: FACTOR,
    }
}

fn check(seen: &Seen, expected: Step) {
    assert_eq!(seen.decide("store"), Ok(expected), "{seen:?}");
}

fn set<const N: usize>(ordinals: [Ordinal; N]) -> BTreeSet<Ordinal> {
    ordinals.into()
}

#[test]
fn what_is_as_wanted_is_left_alone() {
    check(&seen(3, 3, "0 1 2", &[]), Step::Nothing);
    // Somebody drained it, and knows why.
    check(&seen(4, 4, "0 1 2 3~", &[]), Step::Nothing);
    // They did not come yet.
    check(&seen(4, 4, "0", &[]), Step::Nothing);
    check(&seen(4, 4, "", &[]), Step::Nothing);
}

#[test]
fn more_come_at_once_and_those_that_were_to_leave_stay() {
    check(&seen(5, 3, "0 1 2", &[]), Step::ScaleOut { to: 5 });
    check(&seen(5, 3, "", &[]), Step::ScaleOut { to: 5 });
    check(&seen(5, 4, "0 1 2 3~ 4-", &[3, 4]), Step::Undrain(set([3, 4])));
    check(&seen(4, 5, "0 1 2 3~ 4~", &[3, 4]), Step::Undrain(set([3])));
    // Not those that somebody else drained.
    check(&seen(5, 4, "0 1~ 2 3~", &[3]), Step::Undrain(set([3])));
    check(&seen(5, 4, "0 1~ 2 3~", &[]), Step::ScaleOut { to: 5 });
    // It was undrained, which is not written down yet.
    check(&seen(4, 4, "0 1 2 3", &[3]), Step::Note { leaving: set([]) });
}

#[test]
fn fewer_drain_together_and_go_one_by_one_from_the_end() {
    check(&seen(3, 5, "0 1 2 3 4", &[]), Step::Note { leaving: set([3, 4]) });
    check(&seen(3, 5, "0 1 2 3 4", &[3, 4]), Step::Drain(set([3, 4])));
    check(&seen(3, 5, "0 1 2 3~ 4", &[3, 4]), Step::Drain(set([4])));
    check(&seen(3, 5, "0 1 2 3~ 4~", &[3, 4]), Step::Moves(4));
    // The last one first, whoever is ready to go.
    check(&seen(3, 5, "0 1 2 3- 4~", &[3, 4]), Step::Moves(4));
    check(&seen(3, 5, "0 1 2 3~ 4-", &[3, 4]), Step::ScaleIn { to: 4 });
    let going = Seen { pods: (0..5).collect(), ..seen(3, 4, "0 1 2 3- 4-", &[3, 4]) };
    check(&going, Step::Leaves(4));
    check(&seen(3, 4, "0 1 2 3- 4-", &[3, 4]), Step::Remove(4));
    check(&seen(3, 4, "0 1 2 3-", &[3, 4]), Step::Note { leaving: set([3]) });
    check(&seen(3, 4, "0 1 2 3-", &[3]), Step::ScaleIn { to: 3 });
    check(&seen(3, 3, "0 1 2 3-", &[3]), Step::Remove(3));
    check(&seen(3, 3, "0 1 2", &[3]), Step::Note { leaving: set([]) });
}

#[test]
fn who_was_drained_by_others_goes_and_is_never_noted() {
    check(&seen(3, 5, "0 1 2 3~ 4", &[]), Step::Note { leaving: set([4]) });
    check(&seen(3, 5, "0 1 2 3~ 4-", &[4]), Step::ScaleIn { to: 4 });
    check(&seen(3, 4, "0 1 2 3-", &[]), Step::ScaleIn { to: 3 });
    check(&seen(3, 3, "0 1 2 3-", &[]), Step::Remove(3));
}

#[test]
fn a_pod_that_never_became_a_store_node_goes() {
    check(&seen(3, 4, "0 1 2", &[]), Step::Note { leaving: set([3]) });
    check(&seen(3, 4, "0 1 2", &[3]), Step::ScaleIn { to: 3 });
    // It came at the last moment.
    check(&seen(3, 4, "0 1 2 3", &[3]), Step::Drain(set([3])));
    // Nobody knows what pods keep of which the cluster knows nothing.
    let refused = seen(3, 4, "", &[3]).decide("store");
    assert_eq!(refused, Err(Refusal::Strangers { set: "store".to_owned() }));
}

#[test]
fn who_keeps_replicas_gets_its_pod_back() {
    // Somebody scaled the StatefulSet: below what is wanted, or too soon.
    check(&seen(3, 2, "0 1 2", &[]), Step::ScaleOut { to: 3 });
    check(&seen(3, 3, "0 1 2 3 4", &[]), Step::Note { leaving: set([3, 4]) });
    check(&seen(3, 3, "0 1 2 3 4", &[3, 4]), Step::Drain(set([3, 4])));
    check(&seen(3, 3, "0 1 2 3~ 4-", &[3, 4]), Step::ScaleOut { to: 4 });
    check(&seen(3, 3, "0 1 2 3~ 4~", &[3, 4]), Step::ScaleOut { to: 5 });
    check(&seen(3, 3, "0 1 2 3- 4-", &[3, 4]), Step::Remove(4));
}

#[test]
fn replicas_need_store_nodes_of_their_own() {
    for (wanted, replicas) in [(2, 3), (1, 2), (2, 2)] {
        let refused = seen(wanted, replicas, "0 1 2", &[]).decide("store");
        assert_eq!(refused, Err(Refusal::TooFew { wanted, factor: FACTOR }));
    }
}

#[test]
fn an_old_picture_is_not_trusted_where_it_would_hurt() {
    let rests = |step: Step| step.rests_on(3);
    assert_eq!(rests(Step::ScaleIn { to: 4 }), Some(4));
    assert_eq!(rests(Step::ScaleOut { to: 5 }), Some(4));
    assert_eq!(rests(Step::ScaleOut { to: 3 }), None);
    assert_eq!(rests(Step::Remove(4)), None);
}

/// A cluster, its StatefulSet, people who change their minds, and an operator that sees some of it late.
struct World {
    seen: Seen,
    /// What a proxy still shows.
    shown: BTreeMap<Ordinal, Node>,
    /// Drained by people.
    theirs: BTreeSet<Ordinal>,
    entropy: SeededEntropy,
}

impl World {
    fn new(seed: u64) -> World {
        let seen = seen(3, 3, "0 1 2", &[]);
        World { shown: seen.nodes.clone(), seen, theirs: BTreeSet::new(), entropy: SeededEntropy::new(seed) }
    }

    fn below(&self, limit: u32) -> u32 {
        u32::try_from(self.entropy.next_u64() % u64::from(limit)).expect("it is below")
    }

    fn some(&self, which: impl Fn(&Ordinal, &Node) -> bool) -> Option<Ordinal> {
        let all: Vec<_> = self.seen.nodes.iter().filter(|(one, node)| which(one, node)).map(|(one, _)| *one).collect();
        let count = u32::try_from(all.len()).expect("a few");
        (count > 0).then(|| all[self.below(count) as usize])
    }

    fn node(&mut self, one: Ordinal) -> &mut Node {
        self.seen.nodes.get_mut(&one).expect("it is known")
    }

    fn keep(&mut self, one: Ordinal, change: isize) {
        let node = self.node(one);
        node.keeps = node.keeps.checked_add_signed(change).expect("it keeps some");
        if node.standing != Standing::Stays {
            node.standing = if node.keeps == 0 { Standing::Drained } else { Standing::Drains };
        }
    }

    fn drain(&mut self, one: Ordinal) {
        if let Some(node) = self.seen.nodes.get_mut(&one) {
            node.standing = Standing::Drains;
            self.keep(one, 0);
        }
    }

    fn undrain(&mut self, one: Ordinal) {
        if let Some(node) = self.seen.nodes.get_mut(&one) {
            node.standing = Standing::Stays;
        }
    }

    /// What people do.
    fn people(&mut self) {
        match self.below(4) {
            0 => self.seen.wanted = FACTOR + self.below(4),
            1 => self.seen.replicas = self.below(7),
            2 => {
                let free =
                    |one: &Ordinal, node: &Node| node.standing == Standing::Stays && !self.seen.leaving.contains(one);
                if let Some(one) = self.some(free) {
                    self.drain(one);
                    self.theirs.insert(one);
                    self.shown = self.seen.nodes.clone();
                }
            }
            _ => self.people_undrain(),
        }
    }

    fn people_undrain(&mut self) {
        for one in std::mem::take(&mut self.theirs) {
            self.undrain(one);
        }
        self.shown = self.seen.nodes.clone();
    }

    /// What becomes of pods and replicas.
    fn time_passes(&mut self) {
        match self.below(4) {
            0 => {
                let replicas = self.seen.replicas;
                if let Some(extra) = self.seen.pods.range(replicas..).next_back().copied() {
                    self.seen.pods.remove(&extra);
                } else {
                    self.seen.pods.extend(0..replicas);
                }
            }
            1 => {
                let new = self.seen.pods.iter().find(|pod| !self.seen.nodes.contains_key(pod)).copied();
                if let Some(new) = new {
                    self.seen.nodes.insert(new, Node { standing: Standing::Stays, keeps: 0, stuck: None });
                }
            }
            2 => {
                let from = self.some(|_, node| node.standing == Standing::Drains);
                let to = self.some(|one, node| node.standing == Standing::Stays && self.seen.pods.contains(one));
                if let (Some(from), Some(to)) = (from, to) {
                    self.keep(from, -1);
                    self.keep(to, 1);
                }
            }
            _ => {
                let stays = self.some(|_, node| node.standing == Standing::Stays && node.keeps < 3);
                if let Some(stays) = stays {
                    self.keep(stays, 1);
                }
            }
        }
        if self.below(3) == 0 {
            self.shown = self.seen.nodes.clone();
        }
    }

    /// One look, as the operator does it.
    fn look(&mut self) -> Step {
        let shown = Seen { nodes: self.shown.clone(), ..self.seen.clone() };
        let Ok(step) = shown.decide("store") else { return Step::Nothing };
        if let Some(node) = step.rests_on(self.seen.wanted) {
            self.drain(node);
            self.shown = self.seen.nodes.clone();
            if self.seen.decide("store").as_ref() != Ok(&step) {
                return step;
            }
        }
        self.take(&step);
        step
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Nothing | Step::Moves(_) | Step::Leaves(_) => {}
            Step::Note { leaving } => self.seen.leaving = leaving.clone(),
            Step::Drain(all) => {
                for one in all {
                    assert!(self.seen.leaving.contains(one), "{one} drains and nobody noted why");
                    self.drain(*one);
                }
            }
            Step::Undrain(all) => {
                for one in all {
                    assert!(!self.theirs.contains(one), "{one} was drained by somebody else");
                    self.undrain(*one);
                    self.seen.leaving.remove(one);
                }
            }
            Step::ScaleOut { to } => self.seen.replicas = *to,
            Step::ScaleIn { to } => {
                let node = self.seen.nodes.get(to);
                assert!(node.is_none_or(|node| node.keeps == 0), "{to} goes with its replicas: {:?}", self.seen);
                assert_eq!(self.seen.replicas - 1, *to, "one at a time");
                self.seen.replicas = *to;
            }
            Step::Remove(one) => {
                let gone = !self.seen.pods.contains(one);
                if gone && self.seen.nodes.get(one).is_some_and(|node| node.standing == Standing::Drained) {
                    self.seen.nodes.remove(one);
                    self.theirs.remove(one);
                }
            }
        }
    }
}

#[test]
fn whatever_people_do_no_replica_is_left_behind_and_it_ends_as_wanted() {
    for seed in 0..500 {
        let mut world = World::new(seed);
        for _ in 0..300 {
            match world.below(10) {
                0 => world.people(),
                1..6 => world.time_passes(),
                _ => drop(world.look()),
            }
        }
        world.people_undrain();
        let settled = (0..10_000).any(|_| {
            world.time_passes();
            world.shown = world.seen.nodes.clone();
            let step = world.look();
            let Seen { wanted, pods, nodes, .. } = &world.seen;
            step == Step::Nothing && pods.len() == nodes.len() && (0..*wanted).all(|one| nodes.contains_key(&one))
        });
        let World { seen, .. } = world;
        assert!(settled, "seed {seed}: {seen:?}");
        let all: Vec<Ordinal> = (0..seen.wanted).collect();
        assert_eq!(seen.nodes.keys().copied().collect::<Vec<_>>(), all, "seed {seed}");
        assert!(seen.replicas == seen.wanted && seen.leaving.is_empty(), "seed {seed}: {seen:?}");
    }
}
