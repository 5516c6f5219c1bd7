use apogee_model::{
    DeliveryOrder, GroupChanges, NewGroup, NewNode, NodeName, Permission, PriorityFactor, RetryPolicy, TopicChanges,
    TopicType,
};

use super::*;

mod moves;

fn birth(replication_factor: u8) -> Command {
    Command::Birth { cluster_id: 9, replication_factor, mac_key: Secret([1; 32]) }
}

/// A cluster with one store-node, so that topics have a place.
fn born() -> State {
    let mut state = State::default();
    run(&mut state, &birth(1)).expect("nothing was before");
    run(&mut state, &register("n1", "")).expect("a store-node may always come");
    state
}

fn register(name: &str, zone: &str) -> Command {
    let name = NodeName::parse(name).expect("a plain name");
    let (lanes, replication) = (format!("{name}:1"), format!("{name}:2"));
    Command::RegisterNode { new: NewNode { name, lanes, replication, zone: zone.to_owned(), incarnation: 1 } }
}

fn run(state: &mut State, command: &Command) -> Result<Change, Refusal> {
    let change = state.decide(command)?;
    state.apply(&change);
    Ok(change)
}

fn create(name: &str, queues: u16) -> Command {
    create_as(TopicType::Mixed, name, queues)
}

fn create_as(topic_type: TopicType, name: &str, queues: u16) -> Command {
    let topic = Topic::parse("", name).expect("a plain name");
    let new = NewTopic {
        topic,
        topic_type,
        queues,
        permission: Permission::ReadWrite,
        lite_expiration: None,
        key_index: true,
    };
    Command::CreateTopic { new, created: Timestamp(5) }
}

fn create_group(max_attempts: u32) -> Command {
    let group = ConsumerGroup::parse("", "g").expect("a plain name");
    let (order, retry) = (DeliveryOrder::Fifo, RetryPolicy::default());
    let priority_factor = PriorityFactor::default();
    let new = NewGroup { group, order, max_attempts, retry, priority_factor, lite: None };
    Command::CreateGroup { new, created: Timestamp(6) }
}

#[test]
fn a_cluster_is_born_once_and_first() {
    let mut state = State::default();
    assert_eq!(run(&mut state, &create("t", 1)), Err(Refusal::NotBorn));
    assert_eq!((state.version(), state.cluster()), (0, None));
    run(&mut state, &birth(1)).expect("nothing was before");
    assert_eq!(state.version(), 1);
    assert_eq!(run(&mut state, &birth(3)), Err(Refusal::BornAlready));
}

/// What is said to a store-node that wants to stop.
fn leave(state: &mut State, name: &str) -> Option<Refusal> {
    let node = NodeName::parse(name).expect("a plain name");
    run(state, &Command::LeaveInTurn { node, incarnation: 1 }).err()
}

#[test]
fn store_nodes_leave_one_after_the_other() {
    let mut state = State::default();
    run(&mut state, &birth(3)).expect("nothing was before");
    for node in ["n1", "n2", "n3"] {
        run(&mut state, &register(node, "")).expect("a store-node may always come");
    }
    assert_eq!(leave(&mut state, "n2"), None);
    let no_turn = Some(Refusal::Metadata(MetadataError::NoTurn { group: ReplicaGroupId(0) }));
    assert_eq!(leave(&mut state, "n1"), no_turn);
    assert_eq!(leave(&mut state, "n2"), None, "a repeated call");
    run(&mut state, &register("n2", "")).expect("it comes back");
    assert_eq!(leave(&mut state, "n1"), None);
    let gone = Command::NodeHeard { node: NodeName::parse("n2").unwrap(), incarnation: 1, alive: false };
    run(&mut state, &gone).expect("its lease ends");
    assert_eq!(leave(&mut state, "n3"), None, "there is no majority to lose any more");
}

#[test]
fn the_only_replica_may_always_leave() {
    assert_eq!(leave(&mut born(), "n1"), None);
}

#[test]
fn a_refusal_changes_nothing_and_names_the_limit() {
    let mut state = born();
    let before = state.clone();
    let out_of_range =
        |what, asked, max| Err(Refusal::Metadata(MetadataError::OutOfRange { what, asked, min: 1, max }));
    assert_eq!(run(&mut state, &create("t", 0)), out_of_range("queues", 0, 1024));
    assert_eq!(run(&mut state, &create("t", 1025)), out_of_range("queues", 1025, 1024));
    assert_eq!(run(&mut state, &create_group(0)), out_of_range("max attempts", 0, u64::from(u32::MAX)));
    assert_eq!(state, before);
}

fn dead_letters(state: &State) -> Option<Vec<u32>> {
    let topic = Topic::parse("", "%DLQ%g").expect("a plain name");
    let topic = state.cluster().expect("born").topics.get(&topic)?;
    assert_eq!(usize::from(topic.queues), topic.placement.len());
    Some(topic.placement.iter().map(|group| group.0).collect())
}

#[test]
fn dead_letters_of_a_group_have_a_queue_in_every_replica_group_while_the_group_exists() {
    let mut state = born();
    run(&mut state, &create_group(3)).expect("a new name");
    assert_eq!(dead_letters(&state), Some(vec![0]));
    run(&mut state, &register("n2", "")).expect("a store-node may always come");
    run(&mut state, &register("n2", "elsewhere")).expect("a store-node may always come");
    assert_eq!(dead_letters(&state), Some(vec![0, 1]));
    let topic = Topic::parse("", "%DLQ%g").expect("a plain name");
    let changes =
        TopicChanges { topic: topic.clone(), queues: Some(5), permission: None, key_index: Some(false), open: None };
    for command in
        [create("%DLQ%g", 1), create("%DLQ%other", 1), Command::DeleteTopic { topic }, Command::AlterTopic { changes }]
    {
        let refused = run(&mut state, &command);
        assert!(matches!(refused, Err(Refusal::Metadata(MetadataError::Refused { .. }))), "{command}: {refused:?}");
    }
    let group = ConsumerGroup::parse("", "g").expect("a plain name");
    run(&mut state, &Command::DeleteGroup { group }).expect("it is there");
    assert_eq!(dead_letters(&state), None);
    run(&mut state, &create_group(3)).expect("its name is free again");
    assert_eq!((dead_letters(&state), state.last_topic), (Some(vec![0, 1]), TopicId(2)));
}

#[test]
fn a_group_from_before_the_first_store_node_gets_its_queues_later() {
    let mut state = State::default();
    run(&mut state, &birth(1)).expect("nothing was before");
    run(&mut state, &create_group(3)).expect("a new name");
    assert_eq!(dead_letters(&state), Some(vec![]));
    run(&mut state, &register("n1", "")).expect("a store-node may always come");
    assert_eq!(dead_letters(&state), Some(vec![0]));
}

#[test]
fn attempts_rests_and_priorities_of_a_group_can_be_altered() {
    let mut state = born();
    run(&mut state, &create_group(3)).expect("a new name");
    let group = ConsumerGroup::parse("", "g").expect("a plain name");
    let changes = |max_attempts: Option<u32>, retry| {
        let priority_factor = max_attempts.and_then(|factor| PriorityFactor::new(factor).ok());
        GroupChanges { group: group.clone(), max_attempts, retry, priority_factor }
    };
    let mut alter =
        |max_attempts, retry| run(&mut state, &Command::AlterGroup { changes: changes(max_attempts, retry) });
    let Ok(Change::GroupAltered(altered)) = alter(None, Some(RetryPolicy::EXPONENTIAL)) else { panic!("refused") };
    assert_eq!((altered.max_attempts, &altered.retry), (3, &RetryPolicy::EXPONENTIAL));
    assert_eq!(altered.priority_factor.percent(), 100);
    let Ok(Change::GroupAltered(altered)) = alter(Some(5), None) else { panic!("refused") };
    assert_eq!((altered.max_attempts, &altered.retry), (5, &RetryPolicy::EXPONENTIAL));
    assert_eq!(altered.priority_factor.percent(), 5);
    let no_rest = RetryPolicy::Customized { next: Vec::new() };
    for refused in [alter(Some(0), None), alter(None, Some(no_rest))] {
        assert!(matches!(refused, Err(Refusal::Metadata(MetadataError::OutOfRange { min: 1, .. }))), "{refused:?}");
    }
}

#[test]
fn the_last_id_is_given_once() {
    let mut state = born();
    state.last_topic = TopicId(u32::MAX - 1);
    assert!(run(&mut state, &create("last", 1)).is_ok());
    let refused = run(&mut state, &create("one_too_many", 1));
    assert!(matches!(refused, Err(Refusal::Metadata(MetadataError::OutOfRange { what: "topic id", .. }))));
}

#[test]
fn what_did_not_change_is_shared() {
    let mut state = born();
    run(&mut state, &create("a", 1)).expect("a new name");
    let before = Arc::clone(state.cluster().expect("born"));
    run(&mut state, &create("b", 1)).expect("a new name");
    let after = state.cluster().expect("born");
    let a = Topic::parse("", "a").expect("a plain name");
    assert!(Arc::ptr_eq(&before.topics[&a], &after.topics[&a]));
    assert_eq!((before.topics.len(), after.topics.len()), (1, 2));
}

#[test]
fn generations_wrap_and_two_keys_stay() {
    let mut state = born();
    for round in 0..=255 {
        run(&mut state, &Command::RotateMacKey { secret: Secret([round; 32]) }).expect("a born cluster rotates");
    }
    let keys = &state.cluster().expect("born").mac_keys;
    assert_eq!((keys.current.generation, keys.current.secret[0]), (1, 255));
    assert_eq!(keys.previous.as_ref().map(|key| (key.generation, key.secret[0])), Some((0, 254)));
}

#[test]
fn a_command_does_not_tell_its_secret() {
    let shown = format!("{:?}", Command::RotateMacKey { secret: Secret([77; 32]) });
    assert!(!shown.contains("77"), "{shown}");
}

/// A cluster whose groups have three replicas, and store-nodes in these zones, in this order.
fn cluster_of(zones: &[(&str, &str)]) -> State {
    let mut state = State::default();
    run(&mut state, &birth(3)).expect("nothing was before");
    for (name, zone) in zones {
        run(&mut state, &register(name, zone)).expect("a store-node may always come");
    }
    state
}

fn groups(state: &State) -> Vec<String> {
    let groups = state.cluster().expect("born").replica_groups.values();
    let hosts = |group: &Arc<apogee_model::ReplicaGroup>| {
        group.replicas.values().map(NodeName::as_str).collect::<Vec<_>>().join(" ")
    };
    groups.map(|group| format!("{}: {}", group.id, hosts(group))).collect()
}

#[test]
fn every_store_node_is_home_of_a_group_once_there_are_enough() {
    let mut state = cluster_of(&[("a", ""), ("b", "")]);
    assert!(groups(&state).is_empty());
    let refused = run(&mut state, &create("t", 1));
    assert_eq!(refused, Err(Refusal::Metadata(MetadataError::NoReplicaGroups { nodes: 2, needed: 3 })));
    run(&mut state, &register("c", "")).expect("a store-node may always come");
    assert_eq!(groups(&state), ["0: a b c", "1: b a c", "2: c a b"]);
    run(&mut state, &register("d", "")).expect("a store-node may always come");
    assert_eq!(groups(&state).last().expect("a fourth"), "3: d a b");
}

#[test]
fn replicas_go_to_different_zones_first() {
    let state = cluster_of(&[("a1", "a"), ("a2", "a"), ("b1", "b"), ("c1", "c")]);
    assert_eq!(groups(&state), ["0: a1 b1 a2", "1: a2 b1 a1", "2: b1 a1 a2", "3: c1 a1 b1"]);
}

#[test]
fn queues_go_round_and_begin_elsewhere_for_each_topic() {
    let mut state = cluster_of(&[("a", ""), ("b", ""), ("c", "")]);
    let mut placement = |name| match run(&mut state, &create(name, 4)) {
        Ok(Change::TopicCreated(topic)) => topic.placement.iter().map(|group| group.0).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!((placement("t1"), placement("t2")), (vec![1, 2, 0, 1], vec![2, 0, 1, 2]));
    let drained = Command::DrainNode { node: NodeName::parse("b").expect("a plain name") };
    run(&mut state, &drained).expect("it exists");
    let mut placement = |name| match run(&mut state, &create(name, 4)) {
        Ok(Change::TopicCreated(topic)) => topic.placement.iter().map(|group| group.0).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(placement("t3"), [2, 0, 2, 0]);
}

#[test]
fn the_levels_of_a_priority_topic_are_on_one_replica_group() {
    let mut state = cluster_of(&[("a", ""), ("b", ""), ("c", "")]);
    let mut placement = |name| match run(&mut state, &create_as(TopicType::Priority, name, 3)) {
        Ok(Change::TopicCreated(topic)) => topic.placement.iter().map(|group| group.0).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!((placement("t1"), placement("t2")), (vec![1; 3], vec![2; 3]));
}

#[test]
fn a_store_node_that_starts_again_keeps_its_place() {
    let mut state = cluster_of(&[("a", ""), ("b", ""), ("c", "")]);
    let before = groups(&state);
    let version = state.version();
    assert_eq!(run(&mut state, &register("a", "")), Ok(Change::Nothing));
    assert_eq!(state.version(), version);
    run(&mut state, &register("a", "elsewhere")).expect("a store-node may always come");
    assert_eq!((groups(&state), state.version()), (before, version + 1));
}

#[test]
fn only_the_life_that_is_meant_becomes_suspect() {
    let mut state = cluster_of(&[("a", "")]);
    let node = NodeName::parse("a").expect("a plain name");
    let heard = |incarnation, alive| Command::NodeHeard { node: node.clone(), incarnation, alive };
    let refused = run(&mut state, &heard(7, false));
    assert_eq!(refused, Err(Refusal::Metadata(MetadataError::OtherIncarnation { node: node.clone() })));
    run(&mut state, &heard(1, false)).expect("this life");
    let standing = |state: &State| state.cluster().expect("born").nodes[&node].standing;
    assert_eq!(standing(&state), apogee_model::NodeStanding::Suspect);
    run(&mut state, &heard(1, true)).expect("this life");
    assert_eq!(standing(&state), apogee_model::NodeStanding::Alive);
    assert_eq!(run(&mut state, &heard(1, true)), Ok(Change::Nothing));
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    fn commands() -> impl Strategy<Value = Vec<Command>> {
        let node = "[a-f]";
        let name = |name: String| NodeName::parse(&name).expect("a plain name");
        let command = prop_oneof![
            4 => (node, "[xyz]?").prop_map(|(node, zone)| register(&node, &zone)),
            1 => (node, any::<bool>()).prop_map(move |(node, alive)| Command::NodeHeard { node: name(node), incarnation: 1, alive }),
            1 => node.prop_map(move |node| Command::DrainNode { node: name(node) }),
            1 => node.prop_map(move |node| Command::UndrainNode { node: name(node) }),
            4 => ("[s-z]", 1..20_u16).prop_map(|(topic, queues)| create(&topic, queues)),
            2 => "[s-z]".prop_map(|topic| Command::DeleteTopic { topic: Topic::parse("", &topic).expect("a plain name") }),
        ];
        proptest::collection::vec(command, 1..60)
    }

    proptest! {
        /// Groups are whole and have each a home of their own; queues lie on groups that exist, evenly; a state that was
        /// written down goes on as the one that was not.
        #[test]
        fn placement_is_sound(commands in commands(), cut in 0..60_usize) {
            let (mut state, mut ids) = (cluster_of(&[]), std::collections::BTreeSet::new());
            let mut read = state.clone();
            for (at, command) in commands.iter().enumerate() {
                let outcome = state.run(command);
                if let Ok(Change::TopicCreated(topic)) = &outcome.answer {
                    prop_assert!(ids.insert(topic.id));
                }
                prop_assert_eq!(read.run(command), outcome);
                if at == cut {
                    read = serde_json::from_slice(&serde_json::to_vec(&state).expect("plain data")).expect("our own");
                }
            }
            prop_assert_eq!(&read, &state);
            let cluster = state.cluster().expect("born");
            let mut homes = std::collections::BTreeSet::new();
            for group in cluster.replica_groups.values() {
                let hosts: std::collections::BTreeSet<_> = group.replicas.values().collect();
                prop_assert_eq!(hosts.len(), 3);
                prop_assert!(homes.insert(group.home().expect("a group has a home").clone()));
            }
            for topic in cluster.topics.values() {
                prop_assert_eq!(topic.placement.len(), usize::from(topic.queues));
                let count = |id| topic.placement.iter().filter(|group| **group == id).count();
                let counts: Vec<usize> = topic.replica_groups().into_iter().map(count).collect();
                let spread = counts.iter().max().expect("a queue") - counts.iter().min().expect("a queue");
                prop_assert!(spread <= 1 && topic.replica_groups().iter().all(|id| cluster.replica_groups.contains_key(id)));
            }
        }
    }
}
