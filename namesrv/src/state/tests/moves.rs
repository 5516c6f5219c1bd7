use std::collections::{BTreeMap, BTreeSet};

use apogee_model::{MoveStage, NodeStanding, ReplicaGroup, ReplicaId};

use super::*;

fn name(node: &str) -> NodeName {
    NodeName::parse(node).expect("a plain name")
}

fn drain(state: &mut State, node: &str) {
    run(state, &Command::DrainNode { node: name(node) }).expect("it exists");
}

fn undrain(state: &mut State, node: &str) {
    run(state, &Command::UndrainNode { node: name(node) }).expect("it exists");
}

fn begin(state: &mut State) {
    run(state, &Command::BeginMoves).expect("never refused");
}

fn ready(state: &mut State, group: u32, comes: u64) -> Change {
    let ready = Command::MoveReady { group: ReplicaGroupId(group), comes: ReplicaId(comes) };
    run(state, &ready).expect("never refused")
}

fn done(state: &mut State, group: u32, comes: u64) -> Result<Change, Refusal> {
    run(state, &Command::MoveDone { group: ReplicaGroupId(group), comes: ReplicaId(comes) })
}

fn group(state: &State, id: u32) -> &ReplicaGroup {
    &state.cluster().expect("born").replica_groups[&ReplicaGroupId(id)]
}

/// The moves that are under way, as text.
fn moves(state: &State) -> Vec<String> {
    let groups = state.cluster().expect("born").replica_groups.values();
    let told = groups.filter_map(|group| {
        let moving = group.moving.as_ref()?;
        let stage = if moving.stage == MoveStage::Joins { "joins" } else { "swaps" };
        Some(format!("{}: {} {stage} on {} for {}", group.id, moving.comes, moving.to, moving.leaves))
    });
    told.collect()
}

/// Groups "0: a b c", "1: b a c", "2: c a b" and "3: d a b".
fn four() -> State {
    cluster_of(&[("a", ""), ("b", ""), ("c", ""), ("d", "")])
}

#[test]
fn a_store_node_that_drains_keeps_nothing_in_the_end() {
    let mut state = four();
    begin(&mut state);
    assert!(moves(&state).is_empty());
    drain(&mut state, "a");
    begin(&mut state);
    assert_eq!(moves(&state), ["0: 4 joins on d for 1", "1: 4 joins on d for 2"], "no more than two at a time");
    ready(&mut state, 0, 4);
    assert_eq!(moves(&state)[0], "0: 4 swaps on d for 1");
    assert_eq!((group(&state, 0).replicas.len(), group(&state, 0).home()), (3, Some(&name("a"))));
    done(&mut state, 0, 4).expect("it may be over");
    assert_eq!((groups(&state)[0].as_str(), group(&state, 0).home()), ("0: b c d", Some(&name("d"))));
    begin(&mut state);
    assert_eq!(moves(&state), ["1: 4 joins on d for 2", "2: 4 joins on d for 2"]);
    for id in [1, 2] {
        ready(&mut state, id, 4);
        done(&mut state, id, 4).expect("it may be over");
    }
    begin(&mut state);
    assert_eq!(moves(&state), ["3: 4 joins on c for 2"]);
    let kept = MetadataError::KeepsReplicas { node: name("a"), replicas: 1 };
    assert_eq!(run(&mut state, &Command::RemoveNode { node: name("a") }), Err(Refusal::Metadata(kept)));
    ready(&mut state, 3, 4);
    done(&mut state, 3, 4).expect("it may be over");
    assert_eq!(groups(&state), ["0: b c d", "1: b c d", "2: c b d", "3: d b c"]);
    run(&mut state, &Command::RemoveNode { node: name("a") }).expect("it keeps nothing");
    assert!(!state.cluster().expect("born").nodes.contains_key(&name("a")));
    let gone = Err(Refusal::Metadata(MetadataError::NoSuchNode { node: name("a") }));
    assert_eq!(run(&mut state, &Command::RemoveNode { node: name("a") }), gone);
}

#[test]
fn only_a_store_node_that_drains_is_removed() {
    let mut state = four();
    run(&mut state, &register("e", "")).expect("a store-node may always come");
    let keeps = run(&mut state, &Command::RemoveNode { node: name("e") });
    assert!(matches!(keeps, Err(Refusal::Metadata(MetadataError::KeepsReplicas { replicas: 1, .. }))), "{keeps:?}");
    let mut state = cluster_of(&[("a", "")]);
    let stays = run(&mut state, &Command::RemoveNode { node: name("a") });
    assert!(matches!(stays, Err(Refusal::Metadata(MetadataError::Refused { .. }))), "{stays:?}");
    drain(&mut state, "a");
    run(&mut state, &Command::RemoveNode { node: name("a") }).expect("it drains and keeps nothing");
}

#[test]
fn where_nobody_could_take_it_a_replica_stays() {
    let mut state = cluster_of(&[("a", ""), ("b", ""), ("c", "")]);
    drain(&mut state, "a");
    begin(&mut state);
    assert!(moves(&state).is_empty());
    run(&mut state, &register("d", "")).expect("a store-node may always come");
    let away = |alive| Command::NodeHeard { node: name("d"), incarnation: 1, alive };
    run(&mut state, &away(false)).expect("this life");
    begin(&mut state);
    assert!(moves(&state).is_empty(), "nobody moves to a store-node that is away");
    run(&mut state, &away(true)).expect("this life");
    begin(&mut state);
    assert_eq!(moves(&state).len(), 2);
}

#[test]
fn a_replacement_is_in_another_zone_if_it_can() {
    let mut state = cluster_of(&[("a", "x"), ("b", "y"), ("c", "z"), ("d", "y"), ("e", "x")]);
    assert_eq!(groups(&state)[0], "0: a b c");
    drain(&mut state, "a");
    begin(&mut state);
    assert_eq!(moves(&state)[0], "0: 4 joins on e for 1");
}

#[test]
fn a_drain_that_is_taken_back_ends_what_has_no_vote_yet() {
    let mut state = four();
    drain(&mut state, "a");
    begin(&mut state);
    ready(&mut state, 0, 4);
    undrain(&mut state, "a");
    begin(&mut state);
    assert_eq!(moves(&state), ["0: 4 swaps on d for 1"]);
    assert_eq!(ready(&mut state, 1, 4), Change::Nothing);
    assert!(group(&state, 1).is_gone(ReplicaId(4)));
    drain(&mut state, "a");
    begin(&mut state);
    assert_eq!(moves(&state), ["0: 4 swaps on d for 1", "1: 5 joins on d for 2"], "no number is given twice");
    undrain(&mut state, "a");
    assert_eq!(ready(&mut state, 1, 5), Change::Nothing, "nobody wants it any more");
    done(&mut state, 0, 4).expect("it may be over");
    assert_eq!(groups(&state)[0], "0: b c d");
}

#[test]
fn a_replica_that_comes_goes_elsewhere_when_its_store_node_drains_too() {
    let mut state = cluster_of(&[("a", ""), ("b", ""), ("c", ""), ("d", ""), ("e", "")]);
    drain(&mut state, "a");
    begin(&mut state);
    assert_eq!(moves(&state)[0], "0: 4 joins on e for 1");
    drain(&mut state, "e");
    begin(&mut state);
    assert_eq!(moves(&state)[0], "0: 5 joins on d for 1");
    assert!(group(&state, 0).is_gone(ReplicaId(4)) && !group(&state, 0).is_gone(ReplicaId(1)));
}

#[test]
fn late_reports_change_nothing() {
    let mut state = four();
    drain(&mut state, "a");
    begin(&mut state);
    let early = done(&mut state, 0, 4);
    assert!(matches!(early, Err(Refusal::Metadata(MetadataError::Refused { .. }))), "{early:?}");
    ready(&mut state, 0, 4);
    for (id, comes) in [(0, 4), (0, 3), (0, 5), (9, 4)] {
        assert_eq!(ready(&mut state, id, comes), Change::Nothing);
    }
    done(&mut state, 0, 4).expect("it may be over");
    for (id, comes) in [(0, 4), (0, 1), (0, 5), (9, 4)] {
        assert_eq!(done(&mut state, id, comes), Ok(Change::Nothing));
        assert_eq!(ready(&mut state, id, comes), Change::Nothing);
    }
}

#[test]
fn whoever_may_vote_soon_counts_for_those_that_leave_in_turn() {
    let mut state = four();
    drain(&mut state, "a");
    begin(&mut state);
    let away = |node| Command::NodeHeard { node: name(node), incarnation: 1, alive: false };
    run(&mut state, &away("d")).expect("this life");
    let turn = |state: &State, node| {
        let leave = Command::LeaveInTurn { node: name(node), incarnation: 1 };
        match state.decide(&leave) {
            Err(Refusal::Metadata(MetadataError::NoTurn { group })) => Some(group.0),
            _ => None,
        }
    };
    assert_eq!(turn(&state, "b"), Some(3), "d b is what is left of group 3");
    assert_eq!(turn(&state, "c"), None, "a and b have the votes of the others");
    ready(&mut state, 0, 4);
    assert_eq!(turn(&state, "c"), Some(0), "with d, b would be alone");
}

#[test]
fn a_group_from_before_there_were_moves_is_read_and_written_as_it_was() {
    let text = r#"{"id":0,"replicas":{"1":"n1"},"preferred":1}"#;
    let read: ReplicaGroup = serde_json::from_str(text).expect("an older one");
    assert_eq!((read.moving.as_ref(), read.last_gone), (None, ReplicaId(0)));
    assert_eq!(serde_json::to_string(&read).expect("plain data"), text);
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    fn commands() -> impl Strategy<Value = Vec<Command>> {
        let node = "[a-g]";
        let number = || (0..5_u32, 3..9_u64).prop_map(|(group, comes)| (ReplicaGroupId(group), ReplicaId(comes)));
        let command = prop_oneof![
            4 => (node, "[xyz]?").prop_map(|(node, zone)| register(&node, &zone)),
            1 => (node, any::<bool>()).prop_map(|(node, alive)| Command::NodeHeard { node: name(&node), incarnation: 1, alive }),
            2 => node.prop_map(|node| Command::DrainNode { node: name(&node) }),
            1 => node.prop_map(|node| Command::UndrainNode { node: name(&node) }),
            1 => node.prop_map(|node| Command::RemoveNode { node: name(&node) }),
            4 => Just(Command::BeginMoves),
            4 => number().prop_map(|(group, comes)| Command::MoveReady { group, comes }),
            4 => number().prop_map(|(group, comes)| Command::MoveDone { group, comes }),
        ];
        proptest::collection::vec(command, 1..120)
    }

    /// What must hold at any time.
    fn check(cluster: &apogee_model::Cluster) {
        let mut busy: BTreeMap<&NodeName, usize> = BTreeMap::new();
        for group in cluster.replica_groups.values() {
            let hosts: BTreeSet<_> = group.hosts().map(|(_, host)| host).collect();
            assert_eq!((group.replicas.len(), hosts.len()), (3, 3 + usize::from(group.moving.is_some())), "{group:?}");
            assert!(hosts.iter().all(|host| cluster.nodes.contains_key(*host)), "{group:?}");
            assert!(group.home().is_some(), "{group:?}");
            let Some(moving) = &group.moving else { continue };
            assert!(group.replicas.keys().all(|replica| *replica < moving.comes), "{group:?}");
            for node in [&group.replicas[&moving.leaves], &moving.to] {
                *busy.entry(node).or_default() += 1;
            }
        }
        assert!(busy.values().all(|moves| *moves <= 2), "{busy:?}");
    }

    /// What must hold from one version to a later one.
    fn check_step(before: &ReplicaGroup, after: &ReplicaGroup) {
        assert!(before.last_replica() <= after.last_replica());
        for replica in (1..=after.last_replica().0).map(ReplicaId) {
            let host =
                |group: &ReplicaGroup| group.hosts().find(|(other, _)| *other == replica).map(|(_, host)| host.clone());
            let (host_before, host_after) = (host(before), host(after));
            assert!(!before.is_gone(replica) || after.is_gone(replica), "{replica} came back: {before:?} {after:?}");
            assert!(host_before.is_none() || host_after.is_none() || host_before == host_after, "{before:?} {after:?}");
            assert!(
                host_before.is_some() || !after.is_gone(replica) || before.is_gone(replica),
                "{before:?} {after:?}"
            );
        }
        if let Some(moving) = before.moving.as_ref().filter(|moving| moving.stage == MoveStage::Swaps) {
            let over = after.replicas.contains_key(&moving.comes) && !after.replicas.contains_key(&moving.leaves);
            assert!(over || after.moving.as_ref() == Some(moving), "{before:?} {after:?}");
        }
    }

    /// Lets all reports come that can come, until nothing happens any more.
    fn settle(state: &mut State) {
        for _ in 0..100 {
            let before = state.version();
            begin(state);
            let groups: Vec<_> = state.cluster().expect("born").replica_groups.values().cloned().collect();
            for group in groups {
                let Some(moving) = &group.moving else { continue };
                ready(state, group.id.0, moving.comes.0);
                done(state, group.id.0, moving.comes.0).expect("it was allowed");
            }
            if state.version() == before {
                return;
            }
        }
        panic!("moves do not end: {:?}", moves(state));
    }

    proptest! {
        #[test]
        fn moves_are_sound(commands in commands(), cut in 0..120_usize) {
            let mut state = cluster_of(&[("a", ""), ("b", ""), ("c", ""), ("d", "")]);
            let mut read = state.clone();
            for (at, command) in commands.iter().enumerate() {
                let before = Arc::clone(state.cluster().expect("born"));
                let outcome = state.run(command);
                prop_assert_eq!(read.run(command), outcome);
                if at == cut {
                    read = serde_json::from_slice(&serde_json::to_vec(&state).expect("plain data")).expect("our own");
                }
                let after = state.cluster().expect("born");
                check(after);
                for (id, group) in &before.replica_groups {
                    check_step(group, &after.replica_groups[id]);
                }
                if matches!(command, Command::BeginMoves) {
                    prop_assert_eq!(state.decide(command), Ok(Change::Nothing));
                }
            }
            prop_assert_eq!(&read, &state);
        }

        /// In the end a replica is on a store-node that drains only if no other one could take it.
        #[test]
        fn moves_come_to_an_end(commands in commands()) {
            let mut state = cluster_of(&[("a", ""), ("b", ""), ("c", ""), ("d", "")]);
            for command in &commands {
                let _may_be_refused = state.run(command);
            }
            settle(&mut state);
            let cluster = state.cluster().expect("born");
            let standing = |node: &NodeName| cluster.nodes[node].standing;
            for group in cluster.replica_groups.values() {
                prop_assert!(group.moving.as_ref().is_none_or(|moving| standing(&moving.to) != NodeStanding::Draining));
                let drains = group.replicas.values().any(|host| standing(host) == NodeStanding::Draining);
                let could = |node: &NodeName| group.replica_of(node).is_none() && standing(node) == NodeStanding::Alive;
                prop_assert!(!drains || !cluster.nodes.keys().any(could), "{:?}", group);
            }
        }
    }
}
