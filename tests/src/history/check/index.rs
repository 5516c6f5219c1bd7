//! The history by message: what was sent, and its life in every group.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Rules;
use super::dead::Dead;
use super::reset::Reset;
use crate::history::{Call, Delivered, EndAnswer, Handle, MessageId, Moment, Name, Outcome, Place, Span, What};

/// The calls, sorted by what they are about.
pub(super) struct Index<'a> {
    pub(super) sends: BTreeMap<MessageId, Sent<'a>>,
    /// What a group on a topic saw.
    pub(super) groups: BTreeMap<(&'a Name, &'a Name), Group<'a>>,
    /// Messages that were sent to be seen later, and when.
    pub(super) delayed: BTreeMap<MessageId, Duration>,
    /// What came of recalls.
    pub(super) recalls: BTreeMap<MessageId, Vec<(Span, Outcome)>>,
    /// Half messages.
    pub(super) halves: BTreeSet<MessageId>,
    /// How their transactions were to end: with a commit, and what came of that.
    pub(super) ends: BTreeMap<MessageId, Vec<(Span, bool, EndAnswer)>>,
    /// What the filters of groups refuse.
    pub(super) refused: BTreeSet<(&'a Name, MessageId)>,
    /// Groups that want message groups in order.
    pub(super) in_order: BTreeSet<&'a Name>,
    /// By topic and queue: the first message that is still kept, and the age that those before it must have had.
    trimmed: BTreeMap<(&'a Name, u32), (u64, Option<Duration>)>,
    /// When the history ends.
    pub(super) end: Duration,
}

/// One message that somebody sent.
pub(super) struct Sent<'a> {
    pub(super) span: Span,
    pub(super) topic: &'a Name,
    pub(super) digest: u64,
    pub(super) place: Option<&'a Place>,
    pub(super) outcome: Outcome,
}

/// A group on a topic.
#[derive(Default)]
pub(super) struct Group<'a> {
    /// What happened to each message that was ever delivered, in the order of the ends of calls.
    pub(super) lives: BTreeMap<MessageId, Vec<Event<'a>>>,
    pub(super) resets: Vec<Reset>,
    /// Of a group that has them.
    pub(super) dead: Option<Dead>,
    /// Receives without an answer. Any message may have been leased by them.
    pub(super) unanswered: Vec<Unanswered>,
    /// When the first receive was answered, also one that found nothing.
    opened: Option<Moment>,
    /// Receives that found nothing at a time when nobody unknown held anything.
    pub(super) found_nothing: Vec<Span>,
}

/// One thing that happened to a message in a group.
pub(super) struct Event<'a> {
    pub(super) span: Span,
    pub(super) what: Fact<'a>,
}

pub(super) enum Fact<'a> {
    Delivered { delivery: &'a Delivered, attempt_id: Option<u64>, outcome: Outcome },
    Acked { handle: Handle, outcome: Outcome },
    GaveUp { handle: Handle, outcome: Outcome },
    Changed { handle: Handle, after: Duration, outcome: Outcome },
    Released { handle: Handle },
}

pub(super) struct Unanswered {
    /// When it may have taken effect.
    pub(super) span: Span,
    pub(super) attempt_id: Option<u64>,
    pub(super) invisible: Duration,
}

impl<'a> Index<'a> {
    pub(super) fn new(calls: &'a [Call], rules: Rules) -> Self {
        let end = calls.iter().map(|call| call.span.end.at).max().unwrap_or_default();
        let (sends, groups, trimmed) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (delayed, recalls) = (BTreeMap::new(), BTreeMap::new());
        let (refused, in_order) = (BTreeSet::new(), BTreeSet::new());
        let (halves, ends) = (BTreeSet::new(), BTreeMap::new());
        let mut index = Self { sends, groups, delayed, recalls, halves, ends, refused, in_order, trimmed, end };
        for call in calls {
            index.receive(call);
        }
        for call in calls {
            index.take(call);
        }
        let downs: Vec<_> = calls.iter().filter(|call| call.what == What::Down).map(|call| call.span).collect();
        let longest = longest_window(calls);
        for group in index.groups.values_mut() {
            group.unanswered.iter_mut().for_each(|lost| lost.span.end = later(calls, lost.span.end, rules.late_effect));
            let doubtful = group.resets.iter_mut().filter(|reset| reset.outcome == Outcome::Indeterminate);
            doubtful.for_each(|reset| reset.span.end = later(calls, reset.span.end, rules.late_effect));
            group.keep_evidence(&downs, longest);
        }
        index
    }

    /// Receives first, so that every message has its life before somebody settles it.
    fn receive(&mut self, call: &'a Call) {
        let What::Receive { group, topic, attempt_id, invisible, deliveries, outcome } = &call.what else { return };
        let (span, attempt_id) = (call.span, *attempt_id);
        let group = self.groups.entry((group, topic)).or_default();
        if *outcome == Outcome::Ok {
            group.opened = Some(group.opened.map_or(span.end, |opened| opened.min(span.end)));
        }
        match outcome {
            Outcome::Ok if deliveries.is_empty() => group.found_nothing.push(span),
            Outcome::Ok | Outcome::Failed => {}
            Outcome::Indeterminate => group.unanswered.push(Unanswered { span, attempt_id, invisible: *invisible }),
        }
        for delivery in deliveries {
            let what = Fact::Delivered { delivery, attempt_id, outcome: *outcome };
            group.lives.entry(delivery.message).or_default().push(Event { span, what });
        }
    }

    fn take(&mut self, call: &'a Call) {
        match &call.what {
            What::Send { message, topic, digest, place, outcome } => {
                let (digest, outcome, place) = (*digest, *outcome, place.as_ref());
                self.sends.insert(*message, Sent { span: call.span, topic, digest, place, outcome });
            }
            What::Ack { group, message, handle, outcome } => {
                self.settle(call.span, group, *message, Fact::Acked { handle: *handle, outcome: *outcome });
            }
            What::GiveUp { group, message, handle, outcome } => {
                self.settle(call.span, group, *message, Fact::GaveUp { handle: *handle, outcome: *outcome });
            }
            What::DeadLetters { group, topic, max_attempts, letters, complete } => {
                let mut dead = Dead { max_attempts: *max_attempts, complete: *complete, ..Dead::default() };
                for (message, digest) in letters {
                    dead.letters.entry(*message).or_default().push(*digest);
                }
                self.groups.entry((group, topic)).or_default().dead = Some(dead);
            }
            What::Change { group, message, handle, after, outcome } => {
                let what = Fact::Changed { handle: *handle, after: *after, outcome: *outcome };
                self.settle(call.span, group, *message, what);
            }
            What::Release { group, message, handle } => {
                self.settle(call.span, group, *message, Fact::Released { handle: *handle });
            }
            What::Reset { group, topic, to, outcome } if *outcome != Outcome::Failed => {
                let reset = Reset { span: call.span, to: *to, outcome: *outcome };
                self.groups.entry((group, topic)).or_default().resets.push(reset);
            }
            What::Delayed { message, due } => {
                self.delayed.insert(*message, *due);
            }
            What::Half { message } => drop(self.halves.insert(*message)),
            What::End { message, commit, answer } => {
                self.ends.entry(*message).or_default().push((call.span, *commit, *answer));
            }
            What::Recall { message, outcome } => {
                self.recalls.entry(*message).or_default().push((call.span, *outcome));
            }
            What::Refused { group, message } => drop(self.refused.insert((group, *message))),
            What::Trimmed { topic, queue, min, kept } => {
                self.trimmed.insert((topic, *queue), (*min, *kept));
            }
            What::InOrder { group } => {
                self.in_order.insert(group);
            }
            What::Receive { .. }
            | What::Reset { .. }
            | What::Progress { .. }
            | What::Commit { .. }
            | What::Committed { .. }
            | What::Down
            | What::Healed => {}
        }
    }

    /// Whether the message at a place, sent at `sent`, may have been dropped before anybody received it. Its age counts
    /// from the beginning of its block, which may have waited for as long as a late effect does.
    pub(super) fn may_be_dropped(&self, place: &Place, sent: Duration, rules: Rules) -> bool {
        let trimmed = self.trimmed.get(&(&place.topic, place.queue)).filter(|(min, _)| place.offset < *min);
        trimmed.is_some_and(|(_, kept)| {
            self.end + rules.clock_bound + rules.late_effect >= sent + kept.unwrap_or_default()
        })
    }

    /// Whether a group never had to receive the message at a place: it was sent before the group was opened, and a group
    /// that is opened on a queue that lost its first messages begins with those to come.
    pub(super) fn may_be_skipped(&self, group: &Group<'_>, place: &Place, sent: Span) -> bool {
        let late = group.opened.is_none_or(|opened| sent.start < opened);
        late && self.trimmed.keys().any(|(topic, _)| **topic == place.topic)
    }

    /// Whether so many messages may be in a queue and nobody ever heard of them: the queue lost its first messages before
    /// any group was opened, so that each begins behind them, and whoever sent them heard nothing either.
    pub(super) fn may_be_unheard(&self, topic: &Name, queue: u32, messages: u64) -> bool {
        let opened = self.groups.iter().filter(|((_, of), _)| *of == topic).filter_map(|(_, group)| group.opened).min();
        let early = |sent: &&Sent<'_>| opened.is_none_or(|opened| sent.span.start < opened);
        let unheard = |sent: &&Sent<'_>| sent.topic == topic && sent.place.is_none() && sent.outcome != Outcome::Failed;
        let sends = self.sends.values().filter(unheard).filter(early).count();
        self.min_of(topic, queue) > 0 && u64::try_from(sends).is_ok_and(|sends| sends >= messages)
    }

    /// Whether a message that nobody received may be gone for good: it was recalled, its transaction is open or was rolled
    /// back, or it came late to a queue that loses
    /// messages, nobody knows which.
    pub(super) fn may_never_come(&self, message: MessageId, topic: &Name) -> bool {
        let trimmed = || self.trimmed.keys().any(|(of, _)| *of == topic);
        let late = self.delayed.contains_key(&message) || self.halves.contains(&message);
        let open = self.halves.contains(&message) && !self.is_committed(message);
        self.recalls.contains_key(&message) || open || late && trimmed()
    }

    /// Whether the message at a place may have been dropped while a consumer held it.
    pub(super) fn may_be_torn_away(&self, place: &Place) -> bool {
        self.trimmed.get(&(&place.topic, place.queue)).is_some_and(|(min, kept)| place.offset < *min && kept.is_none())
    }

    /// The first message that a queue still holds.
    pub(super) fn min_of(&self, topic: &Name, queue: u32) -> u64 {
        self.trimmed.get(&(topic, queue)).map_or(0, |(min, _)| *min)
    }

    fn settle(&mut self, span: Span, group: &'a Name, message: MessageId, what: Fact<'a>) {
        let groups = self.groups.iter_mut().filter(|((name, _), _)| *name == group);
        let life = groups.filter_map(|(_, group)| group.lives.get_mut(&message)).next();
        let life = life.expect("a client settles what it received");
        let at = life.partition_point(|event| event.span.end.order <= span.end.order);
        life.insert(at, Event { span, what });
    }
}

impl Group<'_> {
    /// A receive that found nothing proves something only while no lease runs that this history does not show: one of
    /// a receive without an answer, or one that a new leader lets run for longer.
    fn keep_evidence(&mut self, downs: &[Span], longest: Duration) {
        let mut murky: Vec<(Duration, Duration)> =
            downs.iter().map(|down| (down.start.at, down.end.at + longest)).collect();
        murky.extend(self.unanswered.iter().map(|lost| (lost.span.start.at, lost.span.end.at + lost.invisible)));
        murky.sort_unstable();
        let murky = merged(&murky);
        self.found_nothing.retain(|span| {
            let after = murky.partition_point(|(from, _)| *from <= span.end.at);
            after == 0 || murky[after - 1].1 < span.start.at
        });
        self.found_nothing.sort_unstable_by_key(|span| span.start);
    }
}

/// The last moment before `time` has passed since `moment`.
fn later(calls: &[Call], moment: Moment, time: Duration) -> Moment {
    let at = moment.at + time;
    let before = calls[..calls.partition_point(|call| call.span.end.at <= at)].last();
    let order = before.map_or(moment.order, |call| call.span.end.order.max(moment.order));
    Moment { order, at }
}

fn merged(sorted: &[(Duration, Duration)]) -> Vec<(Duration, Duration)> {
    let mut merged: Vec<(Duration, Duration)> = Vec::new();
    for (from, to) in sorted {
        match merged.last_mut() {
            Some(last) if *from <= last.1 => last.1 = last.1.max(*to),
            _ => merged.push((*from, *to)),
        }
    }
    merged
}

fn longest_window(calls: &[Call]) -> Duration {
    let window = |call: &Call| match &call.what {
        What::Receive { invisible, .. } => Some(*invisible),
        What::Change { after, .. } => Some(*after),
        _ => None,
    };
    calls.iter().filter_map(window).max().unwrap_or_default()
}
