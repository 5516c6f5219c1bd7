//! What a journal comes to: a state, the log behind it, and the promises of this member. Steps turn its pages; the same
//! steps lead to the same book, in the task that writes them and in a start that reads them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::state::{Command, State};

/// Place of an entry in the log of consensus: the term it was appended in, and its index, from 0.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) term: u64,
    pub(crate) index: u64,
}

/// For whom this member voted last, and whether it has heard that the vote was won.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Vote {
    pub(crate) term: u64,
    pub(crate) member: u64,
    pub(crate) won: bool,
}

/// Who takes part in consensus.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Members {
    /// One set of voters, or two while one follows the other.
    pub(crate) voters: Vec<BTreeSet<u64>>,
    pub(crate) all: BTreeSet<u64>,
}

/// An entry of the log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) at: Place,
    pub(crate) what: What,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    /// Begins the term of a leader.
    Blank,
    Members(Members),
    Command(Command),
}

/// The state machine at one place.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Applied {
    /// The last entry that is in it.
    pub(crate) at: Option<Place>,
    pub(crate) members: Members,
    pub(crate) members_at: Option<Place>,
    pub(crate) state: State,
}

/// One step of a journal.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Step {
    Append(Entry),
    /// Entries with this index and larger ones are gone.
    TruncateFrom(u64),
    Vote(Vote),
    Committed(Place),
    /// Entries up to here are gone; the state has them.
    Purge(Place),
    /// This member has lost what it had; it may have had entries up to this index.
    CatchUp(u64),
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Book {
    pub(crate) applied: Applied,
    pub(crate) vote: Option<Vote>,
    pub(crate) committed: Option<Place>,
    /// See [`Step::CatchUp`].
    pub(crate) catch_up: Option<u64>,
    pub(crate) purged: Option<Place>,
    /// Behind `purged`, without gap.
    pub(crate) entries: Vec<Entry>,
}

/// A step that cannot follow on this book.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry {index} cannot follow, the next is {next}")]
pub(crate) struct Gap {
    index: u64,
    next: u64,
}

impl Applied {
    /// Brings the next entry in. The answer is for who asked for it, if it is a command.
    pub(crate) fn apply(&mut self, entry: &Entry) -> Option<crate::state::Outcome> {
        self.at = Some(entry.at);
        match &entry.what {
            What::Blank => None,
            What::Members(members) => {
                self.members = members.clone();
                self.members_at = Some(entry.at);
                None
            }
            What::Command(command) => Some(self.state.run(command)),
        }
    }
}

impl Book {
    /// Whether this member has taken part in nothing.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Book::default()
    }

    /// The index of the next entry.
    pub(crate) fn next(&self) -> u64 {
        let last = self.entries.last().map(|entry| entry.at).or(self.purged);
        last.map_or(0, |place| place.index + 1)
    }

    /// # Errors
    /// [`Gap`]: this is no step of ours.
    pub(crate) fn turn(&mut self, step: &Step) -> Result<(), Gap> {
        match step {
            Step::Append(entry) => {
                let (index, next) = (entry.at.index, self.next());
                if index != next {
                    return Err(Gap { index, next });
                }
                self.entries.push(entry.clone());
            }
            Step::TruncateFrom(index) => self.entries.retain(|entry| entry.at.index < *index),
            Step::Vote(vote) => self.vote = Some(*vote),
            Step::CatchUp(index) => self.catch_up = Some(*index),
            Step::Committed(place) => self.committed = Some(*place),
            // What is not here was never needed: a state from elsewhere takes its place.
            Step::Purge(place) if place.index < self.next() => {
                self.fold(place.index);
                self.cut(*place);
            }
            Step::Purge(_) => {}
        }
        Ok(())
    }

    /// Takes a state from elsewhere over. Entries that it has are gone; those behind it stay if they follow.
    pub(crate) fn install(&mut self, applied: Applied) {
        let Some(at) = applied.at else { return };
        if self.applied.at.is_some_and(|here| here.index >= at.index) {
            return;
        }
        if !self.entries.iter().any(|entry| entry.at == at) {
            self.entries.clear();
        }
        self.cut(at);
        self.committed = self.committed.max(Some(at));
        self.applied = applied;
    }

    /// Brings what is committed into the state, as far as it is here.
    pub(crate) fn settle(&mut self) {
        if let Some(committed) =
            self.committed.filter(|committed| self.entries.iter().any(|entry| entry.at == *committed))
        {
            self.fold(committed.index);
        }
    }

    fn fold(&mut self, upto: u64) {
        let from = self.applied.at.map_or(0, |at| at.index + 1);
        for entry in self.entries.iter().filter(|entry| (from..=upto).contains(&entry.at.index)) {
            self.applied.apply(entry);
        }
    }

    fn cut(&mut self, upto: Place) {
        self.entries.retain(|entry| entry.at.index > upto.index);
        self.purged = self.purged.max(Some(upto));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blank(term: u64, index: u64) -> Step {
        Step::Append(Entry { at: Place { term, index }, what: What::Blank })
    }

    fn book(steps: &[Step]) -> Book {
        let mut book = Book::default();
        steps.iter().for_each(|step| book.turn(step).unwrap());
        book
    }

    /// Format 2.0, byte for byte. A difference here is a new format, with a new number in `FORMAT`.
    #[test]
    fn golden_text() {
        let text = |value: &Step| serde_json::to_string(value).unwrap();
        let command = Command::DeleteTopic { topic: apogee_model::Topic::parse("shop", "orders").unwrap() };
        let entry = Entry { at: Place { term: 2, index: 7 }, what: What::Command(command) };
        let expected = concat!(
            r#"{"append":{"at":{"term":2,"index":7},"what":{"command":{"delete_topic":"#,
            r#"{"topic":{"namespace":"shop","name":"orders"}}}}}}"#
        );
        assert_eq!(text(&Step::Append(entry)), expected);
        let vote = Vote { term: 3, member: 2, won: true };
        assert_eq!(text(&Step::Vote(vote)), r#"{"vote":{"term":3,"member":2,"won":true}}"#);
        assert_eq!(text(&Step::TruncateFrom(4)), r#"{"truncate_from":4}"#);
        assert_eq!(text(&Step::CatchUp(4)), r#"{"catch_up":4}"#);
        let empty = concat!(
            r#"{"applied":{"at":null,"members":{"voters":[],"all":[]},"members_at":null,"state":{"cluster":null,"#,
            r#""last_topic":0,"last_group":0,"next_replica_group":0}},"vote":null,"committed":null,"catch_up":null,"#,
            r#""purged":null,"entries":[]}"#
        );
        assert_eq!(serde_json::to_string(&Book::default()).unwrap(), empty);
        assert_eq!(serde_json::from_str::<Book>(empty).unwrap(), Book::default());
    }

    #[test]
    fn entries_follow_without_gap() {
        let mut book = book(&[blank(1, 0), blank(1, 1)]);
        assert_eq!(book.turn(&blank(1, 3)), Err(Gap { index: 3, next: 2 }));
        assert_eq!(book.turn(&blank(1, 1)), Err(Gap { index: 1, next: 2 }));
        book.turn(&Step::TruncateFrom(1)).unwrap();
        book.turn(&blank(2, 1)).unwrap();
        assert_eq!((book.next(), book.entries[1].at.term), (2, 2));
    }

    #[test]
    fn what_is_purged_is_in_the_state() {
        let book = book(&[blank(1, 0), blank(1, 1), blank(1, 2), Step::Purge(Place { term: 1, index: 1 })]);
        assert_eq!((book.applied.at, book.next()), (Some(Place { term: 1, index: 1 }), 3));
        assert_eq!((book.purged, book.entries.len()), (Some(Place { term: 1, index: 1 }), 1));
    }

    #[test]
    fn a_state_from_elsewhere_replaces_what_does_not_lead_to_it() {
        let at = |term, index| Some(Place { term, index });
        let applied = |term, index| Applied { at: at(term, index), ..Applied::default() };
        let mut ahead = book(&[blank(1, 0), blank(1, 1)]);
        ahead.install(applied(2, 9));
        assert_eq!((ahead.next(), ahead.purged, ahead.committed), (10, at(2, 9), at(2, 9)));
        ahead.install(applied(2, 3));
        assert_eq!(ahead.applied.at, at(2, 9));
        let mut within = book(&[blank(1, 0), blank(1, 1), blank(1, 2)]);
        within.install(applied(1, 1));
        assert_eq!((within.next(), within.purged), (3, at(1, 1)));
    }
}
