//! What members ask each other, and what they answer. JSON on the wire; few bytes are ever sent.

use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use serde::{Deserialize, Serialize};

use super::types::{Types, log_id, of_entry, of_vote, place, to_entry, to_vote};
use crate::journal::{Applied, Entry, Place, Vote};

/// A question of another member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Question {
    Vote(Ballot),
    /// Whether it would vote so.
    PreVote(Ballot),
    Append {
        vote: Vote,
        after: Option<Place>,
        committed: Option<Place>,
        entries: Vec<Entry>,
    },
    Snapshot {
        vote: Vote,
        applied: Box<Applied>,
    },
    TakeOver {
        vote: Vote,
        to: u64,
        last: Option<Place>,
    },
    /// What the member has; asked by one that has nothing.
    Standing,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ballot {
    vote: Vote,
    last: Option<Place>,
    transfer: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Answer {
    Voted { vote: Vote, last: Option<Place>, granted: bool },
    Appended { last: Option<Place> },
    Conflict { at: Place },
    HigherVote { vote: Vote },
    Installed { vote: Vote },
    TakesOver(bool),
    Standing(Standing),
}

/// What a member has.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Standing {
    /// Neither log nor vote, and it has taken part in nothing.
    Fresh,
    Used {
        vote: Option<Vote>,
        last: Option<Place>,
    },
}

impl Ballot {
    pub(super) fn of(request: &VoteRequest<Types>) -> Self {
        Self {
            vote: of_vote(&request.vote),
            last: request.last_log_id.as_ref().map(place),
            transfer: request.leadership_transfer,
        }
    }

    pub(super) fn request(&self) -> VoteRequest<Types> {
        let mut request = VoteRequest::new(to_vote(self.vote), self.last.map(log_id));
        request.leadership_transfer = self.transfer;
        request
    }
}

impl Question {
    pub(super) fn append(request: AppendEntriesRequest<Types>) -> Self {
        Self::Append {
            vote: of_vote(&request.vote),
            after: request.prev_log_id.as_ref().map(place),
            committed: request.leader_commit.as_ref().map(place),
            entries: request.entries.into_iter().map(of_entry).collect(),
        }
    }

    pub(super) fn take_over(request: &TransferLeaderRequest<Types>) -> Self {
        let last = request.last_log_id().map(place);
        Self::TakeOver { vote: of_vote(request.from_leader()), to: *request.to_node_id(), last }
    }
}

/// The counterpart of [`Question::append`]; `None` when an entry in it cannot be.
pub(super) fn append_request(
    vote: Vote,
    after: Option<Place>,
    committed: Option<Place>,
    entries: &[Entry],
) -> Option<AppendEntriesRequest<Types>> {
    Some(AppendEntriesRequest {
        vote: to_vote(vote),
        prev_log_id: after.map(log_id),
        entries: entries.iter().map(to_entry).collect::<Option<_>>()?,
        leader_commit: committed.map(log_id),
    })
}

impl Answer {
    pub(super) fn voted(response: &VoteResponse<Types>) -> Self {
        Self::Voted {
            vote: of_vote(&response.vote),
            last: response.last_log_id.as_ref().map(place),
            granted: response.vote_granted,
        }
    }

    pub(super) fn appended(result: StreamAppendResult<Types>) -> Self {
        match result {
            Ok(last) => Self::Appended { last: last.as_ref().map(place) },
            Err(StreamAppendError::Conflict(at)) => Self::Conflict { at: place(&at) },
            Err(StreamAppendError::HigherVote(vote)) => Self::HigherVote { vote: of_vote(&vote) },
        }
    }
}
