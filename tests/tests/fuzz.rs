//! What `make fuzz` does for long, for a moment: every target takes valid inputs and mutations of them. Leaves the valid ones
//! where `make fuzz` begins with them.

use std::path::Path;

use proptest::prelude::*;
use proptest::sample::Index;

/// A fuzz target: its name in `tests/fuzz`, what it does with an input, and valid inputs.
struct Target {
    name: &'static str,
    one: fn(&[u8]),
    seeds: fn() -> Vec<Vec<u8>>,
}

const TARGETS: [Target; 7] = [
    Target { name: "handles", one: apogee_model::fuzz::handles, seeds: apogee_model::fuzz::handle_seeds },
    Target { name: "filters", one: apogee_model::fuzz::filters, seeds: apogee_model::fuzz::filter_seeds },
    Target { name: "headers", one: apogee_proxy::fuzz::headers, seeds: apogee_proxy::fuzz::header_seeds },
    Target { name: "requests", one: apogee_proxy::fuzz::requests, seeds: apogee_proxy::fuzz::request_seeds },
    Target { name: "log", one: apogee_engine::fuzz::log, seeds: apogee_engine::fuzz::log_seeds },
    Target { name: "frames", one: apogee_engine::fuzz::frames, seeds: apogee_engine::fuzz::frame_seeds },
    Target { name: "lanes", one: apogee_proto::fuzz::lanes, seeds: apogee_proto::fuzz::lane_seeds },
];

#[test]
fn every_target_is_built_by_make_fuzz() {
    let manifest: toml::Table = toml::from_str(include_str!("../fuzz/Cargo.toml")).unwrap();
    let bins = manifest["bin"].as_array().unwrap();
    let built: Vec<_> = bins.iter().map(|bin| bin["name"].as_str().unwrap()).collect();
    assert_eq!(built, TARGETS.map(|target| target.name));
}

#[test]
fn valid_inputs_pass_and_are_left_for_make_fuzz() {
    for target in &TARGETS {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz").join(target.name);
        std::fs::create_dir_all(&folder).unwrap();
        for (number, seed) in (target.seeds)().iter().enumerate() {
            (target.one)(seed);
            std::fs::write(folder.join(format!("seed-{number}")), seed).unwrap();
        }
    }
}

/// One change of an input.
#[derive(Clone, Debug)]
enum Edit {
    Flip(Index, u8),
    Set(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, Index),
    Repeat(Index, Index),
}

impl Edit {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let len = bytes.len();
        let place = |index: &Index| index.index(len + 1);
        let between = |one: &Index, other: &Index| place(one).min(place(other))..place(one).max(place(other));
        match self {
            Self::Flip(at, bit) => bytes.iter_mut().skip(place(at)).take(1).for_each(|byte| *byte ^= 1 << (bit % 8)),
            Self::Set(at, to) => bytes.iter_mut().skip(place(at)).take(1).for_each(|byte| *byte = *to),
            Self::Insert(at, what) => drop(bytes.splice(place(at)..place(at), what.iter().copied())),
            Self::Remove(from, to) => drop(bytes.drain(between(from, to))),
            Self::Repeat(from, to) => bytes.extend_from_within(between(from, to)),
        }
    }
}

fn edits() -> impl Strategy<Value = Edit> {
    prop_oneof![
        4 => (any::<Index>(), any::<u8>()).prop_map(|(at, bit)| Edit::Flip(at, bit)),
        4 => (any::<Index>(), prop_oneof![any::<u8>(), Just(0), Just(0xff)]).prop_map(|(at, to)| Edit::Set(at, to)),
        2 => (any::<Index>(), proptest::collection::vec(any::<u8>(), 1..9)).prop_map(|(at, it)| Edit::Insert(at, it)),
        1 => any::<(Index, Index)>().prop_map(|(from, to)| Edit::Remove(from, to)),
        1 => any::<(Index, Index)>().prop_map(|(from, to)| Edit::Repeat(from, to)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_inputs_pass(seed in any::<Index>(), edits in proptest::collection::vec(edits(), 1..6)) {
        for target in &TARGETS {
            let mut input = seed.get(&(target.seeds)()).clone();
            edits.iter().for_each(|edit| edit.apply(&mut input));
            (target.one)(&input);
        }
    }

    #[test]
    fn rubbish_passes(input in proptest::collection::vec(any::<u8>(), 0..300)) {
        TARGETS.iter().for_each(|target| (target.one)(&input));
    }
}
