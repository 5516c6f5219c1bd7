//! What an object's conditions say, and when it is looked at again. No IO.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use crate::admin::ClusterError;
use crate::decide::{Lack, Refusal};

/// What is in the cluster serves.
pub(crate) const READY: &str = "Ready";
/// It is as the object says.
pub(crate) const SYNCED: &str = "Synced";

/// Longest wait before the cluster is asked for the same again that it refused.
const REFUSED_MAX: Duration = Duration::from_secs(300);
const AGAIN_MIN: Duration = Duration::from_secs(1);

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Truth {
    True,
    False,
    Unknown,
}

/// One sentence about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Saying {
    pub(crate) truth: Truth,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// What became of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) ready: Saying,
    pub(crate) synced: Saying,
    pub(crate) again: Again,
}

/// When an object that did not change is looked at next.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// In time, to see what others changed.
    Resync,
    /// After so long, because something is under way.
    In(Duration),
    /// After as long again as it did not work already, and not later than that.
    After(Duration),
    /// The same, and not later than in time.
    SoonerThanResync,
}

impl Saying {
    pub(crate) fn new(truth: Truth, reason: &'static str, message: impl Into<String>) -> Saying {
        Saying { truth, reason, message: message.into() }
    }
}

impl Verdict {
    /// It is there; `lack` is what it is not.
    pub(crate) fn there(what: String, lack: Option<&Lack>) -> Verdict {
        let synced = match lack {
            None => Saying::new(Truth::True, "AsSpecified", "it is as this object says"),
            Some(lack @ Lack::FewerQueues { .. }) => Saying::new(Truth::False, "FewerQueues", lack.to_string()),
            Some(lack @ Lack::Growing { .. }) => Saying::new(Truth::False, "Growing", lack.to_string()),
        };
        Verdict { ready: Saying::new(Truth::True, "InCluster", what), synced, again: Again::Resync }
    }

    /// Nothing is done.
    pub(crate) fn refused(refusal: &Refusal) -> Verdict {
        let reason = match refusal {
            Refusal::Foreign { .. } => "NotOurs",
            Refusal::Rival { .. } => "KeptByAnother",
            Refusal::Fixed { .. } => "FixedField",
        };
        let saying = Saying::new(Truth::False, reason, refusal.to_string());
        Verdict { ready: saying.clone(), synced: saying, again: Again::Resync }
    }

    /// The cluster did not do what it was asked for. `there`: what it has, if that is known.
    pub(crate) fn failed(error: &ClusterError, there: Option<String>) -> Verdict {
        let (truth, again) = match error {
            ClusterError::Refused { .. } | ClusterError::Exists { .. } => (Truth::False, Again::After(REFUSED_MAX)),
            ClusterError::Unreachable { .. } | ClusterError::Token { .. } => (Truth::Unknown, Again::SoonerThanResync),
        };
        let synced = Saying::new(truth, error.reason(), error.to_string());
        let ready = there.map_or_else(|| synced.clone(), |there| Saying::new(Truth::True, "InCluster", there));
        Verdict { ready, synced, again }
    }

    /// The conditions of an object that had others until now.
    pub(crate) fn conditions(&self, before: &[Condition], generation: i64, now: Timestamp) -> Vec<Condition> {
        let all = [(READY, &self.ready), (SYNCED, &self.synced)];
        let condition = |(kind, saying): (&str, &Saying)| {
            let status = saying.truth.word();
            let same = find(before, kind).filter(|known| known.status == status);
            let since = same.map_or(Time(now), |known| known.last_transition_time.clone());
            Condition {
                type_: kind.to_owned(),
                status: status.to_owned(),
                reason: saying.reason.to_owned(),
                message: saying.message.clone(),
                observed_generation: Some(generation),
                last_transition_time: since,
            }
        };
        all.into_iter().map(condition).collect()
    }

    /// How long to wait before the object is looked at again, if nobody changes it. `conditions` are its new ones.
    pub(crate) fn wait(&self, conditions: &[Condition], now: Timestamp, resync: Duration) -> Duration {
        let longest = match self.again {
            Again::Resync => return resync,
            Again::In(time) => return time.min(resync),
            Again::After(longest) => longest,
            Again::SoonerThanResync => resync,
        };
        let since = find(conditions, SYNCED).map_or(now, |synced| synced.last_transition_time.0);
        let failing = Duration::try_from(now.duration_since(since)).unwrap_or_default();
        failing.clamp(AGAIN_MIN.min(longest), longest)
    }
}

impl Truth {
    fn word(self) -> &'static str {
        match self {
            Truth::True => "True",
            Truth::False => "False",
            Truth::Unknown => "Unknown",
        }
    }
}

/// The condition of a kind, if there is one.
pub(crate) fn find<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + second).expect("in range")
    }

    fn refused() -> Verdict {
        Verdict::failed(&ClusterError::Refused { reason: "Invalid", message: "no".to_owned() }, None)
    }

    #[test]
    fn a_condition_remembers_since_when() {
        let first = refused().conditions(&[], 1, at(0));
        let second = refused().conditions(&first, 2, at(9));
        assert_eq!(find(&second, SYNCED).map(|it| it.last_transition_time.0), Some(at(0)));
        assert_eq!(find(&second, SYNCED).and_then(|it| it.observed_generation), Some(2));
        let third = Verdict::there("fine".to_owned(), None).conditions(&second, 2, at(10));
        assert_eq!(
            find(&third, READY).map(|it| (it.status.as_str(), it.last_transition_time.0)),
            Some(("True", at(10)))
        );
    }

    #[test]
    fn what_is_refused_is_asked_for_ever_more_rarely() {
        let conditions = refused().conditions(&[], 1, at(0));
        let resync = Duration::from_secs(15);
        let wait = |second| refused().wait(&conditions, at(second), resync).as_secs();
        assert_eq!([wait(0), wait(1), wait(40), wait(4_000)], [1, 1, 40, 300]);
        let away = Verdict::failed(&ClusterError::Unreachable { message: "no".to_owned() }, None);
        let conditions = away.conditions(&[], 1, at(0));
        let wait = |second| away.wait(&conditions, at(second), resync).as_secs();
        assert_eq!([wait(0), wait(7), wait(70)], [1, 7, 15]);
        assert_eq!(Verdict::there(String::new(), None).wait(&[], at(0), resync), resync);
    }

    #[test]
    fn what_serves_is_ready_although_it_is_not_as_wanted() {
        let lack = Lack::FewerQueues { there: 12 };
        let verdict = Verdict::there("topic t has 12 queues".to_owned(), Some(&lack));
        assert_eq!((verdict.ready.truth, verdict.synced.truth), (Truth::True, Truth::False));
        let error = ClusterError::Refused { reason: "Invalid", message: "no".to_owned() };
        let verdict = Verdict::failed(&error, Some("topic t has 12 queues".to_owned()));
        assert_eq!((verdict.ready.truth, verdict.synced.truth), (Truth::True, Truth::False));
        let away = Verdict::failed(&ClusterError::Unreachable { message: "no".to_owned() }, None);
        assert_eq!((away.ready.truth, away.synced.truth), (Truth::Unknown, Truth::Unknown));
        let foreign = Verdict::refused(&Refusal::Foreign { name: "topic t".to_owned() });
        assert_eq!((foreign.ready.truth, foreign.synced.reason), (Truth::False, "NotOurs"));
    }
}
