//! How its replicas leave a store-node that drains, look by look.

use std::collections::BTreeMap;
use std::time::Duration;

use apogee_proto::admin::v1;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{drains, hosted};
use crate::cli::error::CliError;

/// There is no hope when no other store-node could take a replica for this long: one that starts again is back by then.
const STUCK_MAX: Duration = Duration::from_secs(30);

/// A store-node that drains, since somebody watches it.
pub(super) struct Leaving {
    name: String,
    /// How many replicas it kept at most.
    of: usize,
    /// What it kept at the last look, by the number of the replica group.
    kept: BTreeMap<u32, Kept>,
    stuck: Option<Stuck>,
}

/// A replica that has not left.
#[derive(Clone, Debug, PartialEq)]
struct Kept {
    group: String,
    moves: Option<v1::ReplicaMove>,
}

/// No other store-node could take what is left.
struct Stuck {
    why: String,
    since: Instant,
}

/// What has changed between two looks.
#[derive(Debug, PartialEq)]
pub(super) enum Event {
    Moves { group: String, to: v1::ReplicaMove },
    GivenUp { group: String, to: v1::ReplicaMove },
    Left { group: String },
    Stuck { why: String },
}

/// How the wait goes on.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    Waits,
    Drained,
    /// No other store-node could take what is left.
    Hopeless,
    /// Somebody has taken the mark away.
    Stays,
}

impl Leaving {
    pub(super) fn new(name: &str) -> Leaving {
        Leaving { name: name.to_owned(), of: 0, kept: BTreeMap::new(), stuck: None }
    }

    /// Looks again, and says what is otherwise than before.
    pub(super) fn look(&mut self, cluster: &v1::DescribeClusterResponse, now: Instant) -> (Vec<Event>, Verdict) {
        let kept = kept(cluster, &self.name);
        self.of = self.of.max(kept.len());
        let mut events = moved(&self.kept, &kept);
        self.kept = kept;
        events.extend(self.look_if_stuck(cluster, now));
        (events, self.verdict(cluster, now))
    }

    fn look_if_stuck(&mut self, cluster: &v1::DescribeClusterResponse, now: Instant) -> Option<Event> {
        let is_it = |one: &&v1::Problem| one.kind() == v1::ProblemKind::NodeCannotDrain && one.subject == self.name;
        let why = cluster.problems.iter().find(is_it).map(|problem| problem.detail.clone());
        let before = self.stuck.take();
        let why = why?;
        let told = before.as_ref().is_some_and(|before| before.why == why);
        let since = before.map_or(now, |before| before.since);
        self.stuck = Some(Stuck { why: why.clone(), since });
        (!told).then_some(Event::Stuck { why })
    }

    fn verdict(&self, cluster: &v1::DescribeClusterResponse, now: Instant) -> Verdict {
        match cluster.nodes.iter().find(|node| node.name == self.name).map(v1::StoreNode::standing) {
            None | Some(v1::NodeStanding::Drained) => Verdict::Drained,
            Some(standing) if !drains(standing) => Verdict::Stays,
            Some(_) if self.stuck.as_ref().is_some_and(|stuck| now.duration_since(stuck.since) >= STUCK_MAX) => {
                Verdict::Hopeless
            }
            Some(_) => Verdict::Waits,
        }
    }

    /// Why nobody waits any longer.
    pub(super) fn given_up(&self) -> CliError {
        let (name, left) = (self.name.clone(), self.left());
        match &self.stuck {
            Some(stuck) => CliError::CannotDrain { why: stuck.why.clone() },
            None => CliError::NotDrained { name, left },
        }
    }

    /// How many replicas it keeps.
    pub(super) fn left(&self) -> String {
        let replicas = if self.of == 1 { "replica" } else { "replicas" };
        format!("{} of {} {replicas} to go", self.kept.len(), self.of)
    }

    /// An event as a sentence.
    pub(super) fn sentence(&self, event: &Event) -> String {
        match event {
            Event::Moves { group, to } if to.stage() == v1::MoveStage::Swaps => {
                format!("{group}: replica {} on {} takes the place of replica {}", to.comes, to.node, to.leaves)
            }
            Event::Moves { group, to } => format!("{group}: replica {} joins on {}", to.comes, to.node),
            Event::GivenUp { group, to } => format!("{group}: replica {} does not come to {}", to.comes, to.node),
            Event::Left { group } => format!("{group} has left; {}", self.left()),
            Event::Stuck { why } => why.clone(),
        }
    }

    /// An event as a document.
    pub(super) fn document(&self, event: &Event) -> Value {
        let (event, group, to) = match event {
            Event::Moves { group, to } => (super::stage(to), group, Some(to)),
            Event::GivenUp { group, to } => ("given_up", group, Some(to)),
            Event::Left { group } => ("left", group, None),
            Event::Stuck { why } => return json!({ "name": self.name, "event": "stuck", "detail": why }),
        };
        json!({
            "name": self.name,
            "event": event,
            "replica_group": group,
            "replica": to.map(|to| to.comes),
            "node": to.map(|to| to.node.clone()),
            "replicas_left": self.kept.len(),
        })
    }
}

/// What a store-node keeps, and the moves that take it away.
fn kept(cluster: &v1::DescribeClusterResponse, name: &str) -> BTreeMap<u32, Kept> {
    let kept = |(group, replica): (&v1::ReplicaGroup, u64)| {
        let moves = group.moving.clone().filter(|moving| moving.leaves == replica);
        (group.id, Kept { group: group.name.clone(), moves })
    };
    hosted(cluster, name).into_iter().map(kept).collect()
}

/// What has become of each replica.
fn moved(before: &BTreeMap<u32, Kept>, now: &BTreeMap<u32, Kept>) -> Vec<Event> {
    let left = before.iter().filter(|(id, _)| !now.contains_key(id));
    let left = left.map(|(_, kept)| Event::Left { group: kept.group.clone() });
    let others = now.iter().filter_map(|(id, kept)| {
        let (group, was) = (kept.group.clone(), before.get(id).and_then(|kept| kept.moves.clone()));
        match (was, kept.moves.clone()) {
            (was, now) if was == now => None,
            (Some(to), None) => Some(Event::GivenUp { group, to }),
            (_, now) => now.map(|to| Event::Moves { group, to }),
        }
    });
    left.chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The store-nodes n1 to n4 with broker-0 and broker-1 on the first three, of which n1 drains; and the moves of
    /// the replicas of n1, `-` for one that has left.
    fn cluster(standing: v1::NodeStanding, moves: [&str; 2]) -> v1::DescribeClusterResponse {
        let node = |number: u64| v1::StoreNode {
            name: format!("n{number}"),
            standing: if number == 1 { standing } else { v1::NodeStanding::Alive }.into(),
            ..v1::StoreNode::default()
        };
        v1::DescribeClusterResponse {
            nodes: (1..=4).map(node).collect(),
            replica_groups: (0..).zip(moves).map(|(id, moves)| group(id, moves)).collect(),
            ..v1::DescribeClusterResponse::default()
        }
    }

    fn group(id: u32, moves: &str) -> v1::ReplicaGroup {
        let stage = match moves {
            "joins" => Some(v1::MoveStage::Joins),
            "swaps" => Some(v1::MoveStage::Swaps),
            _ => None,
        };
        let there: &[u64] = match (moves, stage) {
            ("-", _) => &[2, 3, 4],
            (_, Some(_)) => &[1, 2, 3, 4],
            (_, None) => &[1, 2, 3],
        };
        let moving = stage.map(|stage| v1::ReplicaMove { leaves: 1, comes: 4, node: "n4".into(), stage: stage.into() });
        let replicas = there.iter().map(|id| v1::Replica { id: *id, node: format!("n{id}") }).collect();
        v1::ReplicaGroup { id, name: format!("broker-{id}"), replicas, moving, ..v1::ReplicaGroup::default() }
    }

    fn problem(cluster: v1::DescribeClusterResponse, node: &str) -> v1::DescribeClusterResponse {
        let kind = v1::ProblemKind::NodeCannotDrain.into();
        let problem = v1::Problem { kind, subject: node.to_owned(), detail: format!("nobody takes {node}") };
        v1::DescribeClusterResponse { problems: vec![problem], ..cluster }
    }

    #[test]
    fn each_change_is_told_once() {
        let (draining, now) = (v1::NodeStanding::Draining, Instant::now());
        let mut leaving = Leaving::new("n1");
        let mut told = |standing, moves| -> (Vec<String>, Verdict) {
            let (events, verdict) = leaving.look(&cluster(standing, moves), now);
            (events.iter().map(|event| leaving.sentence(event)).collect(), verdict)
        };
        let waits = |told: &[&str]| (told.iter().map(|&told| told.to_owned()).collect::<Vec<_>>(), Verdict::Waits);
        assert_eq!(told(draining, ["", ""]), waits(&[]));
        assert_eq!(told(draining, ["joins", ""]), waits(&["broker-0: replica 4 joins on n4"]));
        assert_eq!(told(draining, ["joins", ""]), waits(&[]));
        let swaps = "broker-0: replica 4 on n4 takes the place of replica 1";
        let (joins, gone) = ("broker-1: replica 4 joins on n4", "broker-1: replica 4 does not come to n4");
        assert_eq!(told(draining, ["swaps", "joins"]), waits(&[swaps, joins]));
        let left = "broker-0 has left; 1 of 2 replicas to go";
        assert_eq!(told(draining, ["-", ""]), waits(&[left, gone]));
        let (events, verdict) = told(v1::NodeStanding::Drained, ["-", "-"]);
        assert_eq!((events, verdict), (vec!["broker-1 has left; 0 of 2 replicas to go".to_owned()], Verdict::Drained));
    }

    #[test]
    fn who_stays_is_waited_for_no_longer() {
        let mut leaving = Leaving::new("n1");
        let verdict = |leaving: &mut Leaving, cluster| leaving.look(&cluster, Instant::now()).1;
        assert_eq!(verdict(&mut leaving, cluster(v1::NodeStanding::Draining, ["", ""])), Verdict::Waits);
        assert_eq!(verdict(&mut leaving, cluster(v1::NodeStanding::Alive, ["", ""])), Verdict::Stays);
        assert_eq!(verdict(&mut Leaving::new("n9"), cluster(v1::NodeStanding::Alive, ["", ""])), Verdict::Drained);
    }

    #[test]
    fn what_nobody_could_take_for_long_is_hopeless() {
        let (mut leaving, begin) = (Leaving::new("n1"), Instant::now());
        let well = || cluster(v1::NodeStanding::Draining, ["", ""]);
        let mut at = |second, cluster| {
            let (events, verdict) = leaving.look(&cluster, begin + Duration::from_secs(second));
            (events.len(), verdict)
        };
        assert_eq!(at(0, problem(well(), "n1")), (1, Verdict::Waits));
        assert_eq!(at(29, problem(well(), "n1")), (0, Verdict::Waits));
        assert_eq!(at(30, problem(well(), "n2")), (0, Verdict::Waits), "of another store-node");
        assert_eq!(at(31, problem(well(), "n1")), (1, Verdict::Waits), "it begins anew");
        assert_eq!(at(61, problem(well(), "n1")), (0, Verdict::Hopeless));
        assert_eq!(leaving.given_up().to_string(), "nobody takes n1");
    }
}
