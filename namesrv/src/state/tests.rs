use apogee_model::{DeliveryOrder, NewNode, NodeName, Permission, TopicType};

use super::*;

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
    let topic = Topic::parse("", name).expect("a plain name");
    let new = NewTopic { topic, topic_type: TopicType::Mixed, queues, permission: Permission::ReadWrite };
    Command::CreateTopic { new, created: Timestamp(5) }
}

fn create_group(max_attempts: u32) -> Command {
    let group = ConsumerGroup::parse("", "g").expect("a plain name");
    Command::CreateGroup { new: NewGroup { group, order: DeliveryOrder::Fifo, max_attempts }, created: Timestamp(6) }
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
