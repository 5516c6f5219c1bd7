//! Hand-written histories: the good one passes, and every invariant notices its own violation.

use std::time::Duration;

use super::{Block, Invariant, Replica, Rules, agree, check};
use crate::history::{
    Call, Delivered, EndAnswer, Handle, MessageId, Moment, Name, Outcome, Place, ResetTo, Span, What,
};

const WINDOW: Duration = Duration::from_secs(10);
const RULES: Rules = Rules { clock_bound: Duration::ZERO, call_max: None, late_effect: Duration::ZERO };

/// Writes a history of one topic, one queue and one group, call after call.
#[derive(Default)]
struct Script {
    calls: Vec<Call>,
    now: Duration,
    outcome: Option<Outcome>,
}

impl Script {
    /// Moves the time forward.
    fn at(mut self, seconds: u64) -> Self {
        self.now = Duration::from_secs(seconds);
        self
    }

    /// The outcome of the next call; OK unless told otherwise.
    fn but(mut self, outcome: Outcome) -> Self {
        self.outcome = Some(outcome);
        self
    }

    fn call(mut self, what: What) -> Self {
        let order = u64::try_from(self.calls.len()).expect("short scripts") * 2;
        let moment = |order| Moment { order, at: self.now };
        self.calls.push(Call { span: Span { start: moment(order), end: moment(order + 1) }, what });
        self.outcome = None;
        self
    }

    /// Everything so far happened during the last call.
    fn overlapping(mut self) -> Self {
        let start = self.calls[0].span.start;
        self.calls.last_mut().expect("there was a call").span.start = start;
        self
    }

    fn outcome(&self) -> Outcome {
        self.outcome.unwrap_or(Outcome::Ok)
    }

    fn send(self, message: u64, offset: u64) -> Self {
        let outcome = self.outcome();
        let place = (outcome == Outcome::Ok).then(|| place(offset));
        self.call(What::Send { message: MessageId(message), topic: name("t"), digest: message, place, outcome })
    }

    fn receive(self, deliveries: Vec<Delivered>) -> Self {
        let outcome = self.outcome();
        let (group, topic) = (name("g"), name("t"));
        self.call(What::Receive { group, topic, attempt_id: None, invisible: WINDOW, deliveries, outcome })
    }

    fn replayed(self, attempt_id: u64, deliveries: Vec<Delivered>) -> Self {
        let (group, topic, attempt_id) = (name("g"), name("t"), Some(attempt_id));
        let outcome = Outcome::Ok;
        self.call(What::Receive { group, topic, attempt_id, invisible: WINDOW, deliveries, outcome })
    }

    fn ack(self, message: u64, handle: u64) -> Self {
        let outcome = self.outcome();
        self.call(What::Ack { group: name("g"), message: MessageId(message), handle: Handle(handle), outcome })
    }

    fn change(self, message: u64, handle: u64, seconds: u64) -> Self {
        let (outcome, after) = (self.outcome(), Duration::from_secs(seconds));
        let (message, handle) = (MessageId(message), Handle(handle));
        self.call(What::Change { group: name("g"), message, handle, after, outcome })
    }

    fn give_up(self, message: u64, handle: u64) -> Self {
        let outcome = self.outcome();
        self.call(What::GiveUp { group: name("g"), message: MessageId(message), handle: Handle(handle), outcome })
    }

    /// Two deliveries, and these dead letters.
    fn dead(self, letters: &[(u64, u64)]) -> Self {
        let letters = letters.iter().map(|(message, digest)| (MessageId(*message), *digest)).collect();
        let (group, topic) = (name("g"), name("t"));
        self.call(What::DeadLetters { group, topic, max_attempts: 2, letters, complete: true })
    }

    fn in_order(self) -> Self {
        self.call(What::InOrder { group: name("g") })
    }

    fn release(self, message: u64, handle: u64) -> Self {
        self.call(What::Release { group: name("g"), message: MessageId(message), handle: Handle(handle) })
    }

    fn reset(self, to: ResetTo) -> Self {
        let outcome = self.outcome();
        self.call(What::Reset { group: name("g"), topic: name("t"), to, outcome })
    }

    fn delayed(self, message: u64, seconds: u64) -> Self {
        self.call(What::Delayed { message: MessageId(message), due: Duration::from_secs(seconds) })
    }

    fn recall(self, message: u64) -> Self {
        let outcome = self.outcome();
        self.call(What::Recall { message: MessageId(message), outcome })
    }

    fn half(self, message: u64) -> Self {
        self.call(What::Half { message: MessageId(message) })
    }

    fn end(self, message: u64, commit: bool, answer: EndAnswer) -> Self {
        self.call(What::End { message: MessageId(message), commit, answer })
    }

    fn progress(self, floor: u64, cursor: u64) -> Self {
        self.call(What::Progress { group: name("g"), topic: name("t"), queue: 0, floor, cursor })
    }

    /// The group's filter refuses it.
    fn refused(self, message: u64) -> Self {
        self.call(What::Refused { group: name("g"), message: MessageId(message) })
    }

    fn trimmed(self, min: u64) -> Self {
        self.call(What::Trimmed { topic: name("t"), queue: 0, min, kept: Some(Duration::ZERO) })
    }

    fn down(self) -> Self {
        self.call(What::Down)
    }

    fn healed(self) -> Self {
        self.call(What::Healed)
    }

    /// The last call began that much earlier.
    fn lasting(mut self, time: Duration) -> Self {
        let start = &mut self.calls.last_mut().expect("there was a call").span.start;
        start.at = start.at.checked_sub(time).expect("it began after the beginning");
        self
    }

    fn gives(self, expected: &[Invariant]) {
        self.gives_by(RULES, expected);
    }

    fn gives_by(self, rules: Rules, expected: &[Invariant]) {
        let found = check(&self.calls, rules);
        let mut kinds: Vec<_> = found.iter().map(|violation| violation.invariant).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let told: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(kinds, expected, "{}", told.join("\n"));
    }
}

fn name(name: &str) -> Name {
    name.into()
}

fn place(offset: u64) -> Place {
    Place { topic: name("t"), queue: 0, offset }
}

/// A delivery of the message that was sent as number `message` to `offset`.
fn got(message: u64, offset: u64, attempt: u32, handle: u64) -> Delivered {
    let (handle, digest) = (Handle(handle), message);
    Delivered { message: MessageId(message), place: place(offset), digest, attempt, handle, invisible: WINDOW }
}

fn sent_two() -> Script {
    Script::default().send(1, 0).send(2, 1)
}

#[test]
fn a_good_history_passes() {
    sent_two()
        .but(Outcome::Indeterminate)
        .send(3, 2)
        .receive(vec![got(1, 0, 1, 10), got(2, 1, 1, 11)])
        .ack(1, 10)
        .change(2, 11, 0)
        .receive(vec![got(2, 1, 2, 12)])
        .progress(1, 2)
        .at(3)
        .down()
        .progress(1, 2)
        .at(10)
        .receive(vec![got(2, 1, 3, 13)])
        .release(2, 13)
        .receive(vec![got(2, 1, 3, 14)])
        .at(20)
        .change(2, 14, 30)
        .at(45)
        .receive(vec![])
        .at(50)
        .receive(vec![got(2, 1, 4, 15), got(3, 2, 1, 16)])
        .but(Outcome::Failed)
        .ack(2, 14)
        .ack(2, 15)
        .ack(3, 16)
        .at(90)
        .receive(vec![])
        .gives(&[]);
}

#[test]
fn i01_an_acked_send_is_lost() {
    sent_two().receive(vec![got(1, 0, 1, 10)]).ack(1, 10).at(90).receive(vec![]).gives(&[Invariant::I01]);
}

#[test]
fn i13_a_filter_leaks_or_drops() {
    let settled = |script: Script| script.receive(vec![got(1, 0, 1, 10)]).ack(1, 10).at(90).receive(vec![]);
    settled(sent_two().refused(2)).gives(&[]);
    settled(sent_two().refused(1)).gives(&[Invariant::I01, Invariant::I13]);
}

#[test]
fn i02_nobody_sent_it_or_it_was_refused() {
    Script::default().receive(vec![got(1, 0, 1, 10)]).ack(1, 10).gives(&[Invariant::I02]);
    let refused = Script::default().but(Outcome::Failed).send(1, 0);
    refused.receive(vec![got(1, 0, 1, 10)]).ack(1, 10).gives(&[Invariant::I02]);
    Script::default().receive(vec![got(1, 0, 1, 10)]).ack(1, 10).send(1, 0).gives(&[Invariant::I02]);
}

#[test]
fn i08_a_delayed_message_is_early() {
    let later = |seconds| Script::default().but(Outcome::Ok).send(1, 0).delayed(1, seconds).at(5);
    later(5).receive(vec![got(1, 0, 1, 10)]).ack(1, 10).gives(&[]);
    later(6).receive(vec![got(1, 0, 1, 10)]).ack(1, 10).gives(&[Invariant::I08]);
    let rules = Rules { clock_bound: Duration::from_secs(1), ..RULES };
    later(6).receive(vec![got(1, 0, 1, 10)]).ack(1, 10).gives_by(rules, &[]);
}

#[test]
fn i19_a_recalled_message_comes() {
    let later = || Script::default().send(1, 0).delayed(1, 5).send(2, 1).at(1);
    let seen = |script: Script| script.at(9).receive(vec![got(1, 0, 1, 10), got(2, 1, 1, 11)]).ack(1, 10).ack(2, 11);
    let unseen = |script: Script| script.at(9).receive(vec![got(2, 1, 1, 11)]).ack(2, 11).at(90).receive(vec![]);
    seen(later().recall(1)).gives(&[Invariant::I19]);
    seen(later().but(Outcome::Failed).recall(1)).gives(&[]);
    seen(later().but(Outcome::Indeterminate).recall(1)).gives(&[]);
    unseen(later().but(Outcome::Indeterminate).recall(1)).gives(&[]);
    unseen(later()).gives(&[Invariant::I01, Invariant::I10]);
}

#[test]
fn i09_a_half_message_comes_when_it_is_committed() {
    use EndAnswer::{Done, None, Otherwise, Unknown};
    let half = || Script::default().but(Outcome::Ok).send(1, 0).half(1);
    let seen = |script: Script| script.receive(vec![got(1, 0, 1, 10)]).ack(1, 10);
    let unseen = |script: Script| script.at(90).receive(vec![]);
    seen(half().end(1, true, Done)).gives(&[]);
    seen(half().end(1, true, None)).gives(&[]);
    seen(half().end(1, false, Otherwise)).gives(&[Invariant::I09]);
    seen(half()).end(1, true, Done).gives(&[Invariant::I09]);
    seen(half()).gives(&[Invariant::I09]);
    seen(half().end(1, true, None).end(1, false, Done)).gives(&[Invariant::I09]);
    seen(half().end(1, true, None).end(1, true, Otherwise)).gives(&[Invariant::I09]);
    unseen(half()).gives(&[]);
    unseen(half().end(1, false, Done)).gives(&[]);
    unseen(half().end(1, true, None)).gives(&[]);
    unseen(half().end(1, true, Done)).gives(&[Invariant::I01]);
    unseen(half().end(1, false, Otherwise)).gives(&[Invariant::I01]);
    unseen(half().end(1, false, Unknown)).gives(&[Invariant::I09]);
    seen(half().end(1, true, Done).end(1, false, Done)).gives(&[Invariant::I09]);
}

#[test]
fn i03_the_payload_changed() {
    let changed = Delivered { digest: 99, ..got(1, 0, 1, 10) };
    Script::default().send(1, 0).receive(vec![changed]).ack(1, 10).gives(&[Invariant::I03]);
}

#[test]
fn i04_two_live_deliveries() {
    let first = || Script::default().send(1, 0).receive(vec![got(1, 0, 1, 10)]);
    first().at(9).receive(vec![got(1, 0, 2, 11)]).ack(1, 11).gives(&[Invariant::I04]);
    first().at(5).down().receive(vec![got(1, 0, 2, 11)]).ack(1, 11).gives(&[Invariant::I04]);
    first().at(5).change(1, 10, 20).at(24).receive(vec![got(1, 0, 2, 11)]).ack(1, 11).gives(&[Invariant::I04]);
    first().at(15).change(1, 10, 20).receive(vec![got(1, 0, 2, 11)]).ack(1, 11).gives(&[Invariant::I04]);
    first().at(5).receive(vec![got(1, 0, 1, 10)]).ack(1, 10).gives(&[]);
}

#[test]
fn i04_one_handle_for_two_receives() {
    let first = || Script::default().send(1, 0).replayed(7, vec![got(1, 0, 1, 10)]).at(5);
    first().replayed(7, vec![got(1, 0, 1, 10)]).ack(1, 10).gives(&[]);
    first().replayed(8, vec![got(1, 0, 1, 10)]).ack(1, 10).gives(&[Invariant::I04]);
    let moved = first().replayed(7, vec![got(1, 0, 1, 10)]).at(14);
    moved.receive(vec![got(1, 0, 2, 11)]).ack(1, 11).gives(&[Invariant::I04]);
}

#[test]
fn i04_believes_what_an_unanswered_call_may_have_done() {
    let first = || Script::default().send(1, 0).receive(vec![got(1, 0, 1, 10)]).at(5);
    let second = |script: Script| script.receive(vec![got(1, 0, 2, 11)]).ack(1, 11);
    second(first().but(Outcome::Indeterminate).change(1, 10, 0)).gives(&[]);
    second(first().but(Outcome::Failed).change(1, 10, 0)).gives(&[Invariant::I04]);
    second(first().but(Outcome::Indeterminate).ack(1, 10)).gives(&[]);
    // The answer to the change took longer than the next delivery.
    let overtaken = first().receive(vec![got(1, 0, 2, 11)]).change(1, 10, 0).overlapping();
    overtaken.ack(1, 11).gives(&[]);
}

#[test]
fn i05_an_unacked_message_does_not_come_again() {
    let first = || Script::default().send(1, 0).receive(vec![got(1, 0, 1, 10)]);
    first().at(90).receive(vec![]).gives(&[Invariant::I05]);
    let late = |script: Script| script.receive(vec![got(1, 0, 2, 11)]).ack(1, 11);
    late(first().at(11).receive(vec![]).at(60)).gives(&[]);
    late(first().at(13).receive(vec![]).at(60)).gives(&[Invariant::I05]);
    late(first().at(5).down().at(13).receive(vec![]).at(60)).gives(&[]);
    late(first().at(20).receive(vec![]).overlapping().at(60)).gives(&[]);
}

#[test]
fn i05_and_i12_believe_in_late_effects() {
    let rules = Rules { late_effect: Duration::from_secs(4), ..RULES };
    let unanswered = || Script::default().send(1, 0).but(Outcome::Indeterminate).receive(vec![]);
    let unseen = |script: Script| script.at(30).receive(vec![got(1, 0, 2, 11)]).ack(1, 11);
    let attempts = || Script::default().send(1, 0).receive(vec![got(1, 0, 1, 10)]).at(11);
    let jump = |script: Script| script.at(30).receive(vec![got(1, 0, 3, 11)]).ack(1, 11);
    unseen(unanswered()).gives_by(rules, &[]);
    jump(attempts().but(Outcome::Indeterminate).receive(vec![])).gives_by(rules, &[]);
    // A message that nobody holds is found, unless a receive without an answer took effect late.
    let overlooked = |script: Script| script.at(14).receive(vec![]).at(30).receive(vec![got(1, 0, 2, 12)]).ack(1, 12);
    let changed = || Script::default().send(1, 0).receive(vec![got(1, 0, 1, 10)]).at(1).but(Outcome::Indeterminate);
    overlooked(changed().change(1, 10, 10)).gives(&[Invariant::I05]);
    overlooked(changed().change(1, 10, 10)).gives_by(rules, &[]);
}

#[test]
fn i06_an_acked_message_comes_again() {
    let acked = || Script::default().send(1, 0).receive(vec![got(1, 0, 1, 10)]).at(1);
    acked().ack(1, 10).at(20).receive(vec![got(1, 0, 2, 11)]).ack(1, 11).gives(&[Invariant::I06]);
    let lost = acked().but(Outcome::Indeterminate).ack(1, 10).at(20);
    lost.receive(vec![got(1, 0, 2, 11)]).ack(1, 11).gives(&[]);
}

#[test]
fn i10_places_are_shared_left_out_or_out_of_order() {
    let both = vec![got(1, 0, 1, 10), got(2, 0, 1, 11)];
    Script::default().send(1, 0).send(2, 0).receive(both).ack(1, 10).ack(2, 11).gives(&[Invariant::I10]);
    let hole = vec![got(1, 0, 1, 10), got(2, 2, 1, 11)];
    Script::default().send(1, 0).send(2, 2).receive(hole).ack(1, 10).ack(2, 11).gives(&[Invariant::I10]);
    let back = vec![got(1, 1, 1, 10), got(2, 0, 1, 11)];
    Script::default().send(1, 1).send(2, 0).receive(back.clone()).ack(1, 10).ack(2, 11).gives(&[Invariant::I10]);
    let overlap = Script::default().send(1, 1).send(2, 0).overlapping();
    overlap.receive(back).ack(1, 10).ack(2, 11).gives(&[]);
    let moved = Script::default().send(1, 0).receive(vec![got(1, 1, 1, 10)]).ack(1, 10);
    moved.gives(&[Invariant::I10]);
}

#[test]
fn i10_nobody_hears_of_a_message_that_every_group_begins_behind() {
    let begun = |early: Script| early.receive(Vec::new()).send(3, 2).receive(vec![got(3, 2, 1, 10)]).ack(3, 10);
    let unheard = || Script::default().send(1, 0).but(Outcome::Indeterminate).send(2, 1);
    begun(unheard()).trimmed(1).gives(&[]);
    begun(unheard()).gives(&[Invariant::I01, Invariant::I10]);
    begun(Script::default().send(1, 0)).trimmed(1).gives(&[Invariant::I10]);
    let late = begun(Script::default().send(1, 0)).but(Outcome::Indeterminate).send(2, 1);
    late.trimmed(1).gives(&[Invariant::I10]);
}

#[test]
fn i11_progress_goes_back() {
    let acked = || Script::default().send(1, 0).receive(vec![got(1, 0, 1, 10)]).ack(1, 10);
    acked().progress(1, 1).down().progress(0, 1).gives(&[Invariant::I11]);
    acked().progress(0, 1).down().progress(0, 0).gives(&[Invariant::I11]);
}

#[test]
fn i12_attempts_stand_still_or_jump() {
    let first = || Script::default().send(1, 0).receive(vec![got(1, 0, 1, 10)]);
    first().at(10).receive(vec![got(1, 0, 1, 11)]).ack(1, 11).gives(&[Invariant::I12]);
    first().at(10).receive(vec![got(1, 0, 3, 11)]).ack(1, 11).gives(&[Invariant::I12]);
    let unseen = first().at(10).but(Outcome::Indeterminate).receive(vec![]).at(20);
    unseen.receive(vec![got(1, 0, 3, 11)]).ack(1, 11).gives(&[]);
}

#[test]
fn i14_replicas_differ() {
    let replica = |name: &str, blocks: &[(u64, u64)], views: &str| Replica {
        name: name.into(),
        applied: blocks.last().map_or(0, |(index, _)| *index),
        views: views.to_owned(),
        log: blocks.iter().map(|(index, digest)| (*index, Block { lsn: index * 100, digest: *digest })).collect(),
    };
    let judged = |other: Replica| {
        let one = replica("a", &[(1, 7), (2, 8), (3, 9)], "row 1\nrow 2");
        agree(&[one, other]).into_iter().map(|violation| violation.invariant).collect::<Vec<_>>()
    };
    assert_eq!(judged(replica("b", &[(2, 8), (3, 9)], "row 1\nrow 2")), []);
    assert_eq!(judged(replica("b", &[(1, 7), (2, 8)], "row 1")), [], "one may be behind");
    assert_eq!(judged(replica("b", &[(2, 6), (3, 9)], "row 1\nrow 2")), [Invariant::I14]);
    assert_eq!(judged(replica("b", &[(3, 9)], "row 1")), [Invariant::I14]);
    assert_eq!(judged(replica("b", &[(3, 9)], "row 1\nrow 3")), [Invariant::I14]);
    assert_eq!(judged(replica("b", &[(1, 7), (3, 9)], "row 1\nrow 2")), [Invariant::I14], "a hole");
}

#[test]
fn i15_service_does_not_come_back() {
    let before = || sent_two().receive(vec![got(1, 0, 1, 10), got(2, 1, 1, 11)]).ack(1, 10);
    let healed = before().at(9).healed();
    healed.at(39).send(3, 2).receive(vec![got(2, 1, 2, 12), got(3, 2, 1, 13)]).ack(2, 12).ack(3, 13).gives(&[]);
    let late = before().at(9).healed().at(38).receive(vec![got(2, 1, 2, 12)]).ack(2, 12);
    late.at(40).send(3, 2).receive(vec![got(3, 2, 1, 13)]).ack(3, 13).gives(&[Invariant::I15]);
    let deaf = before().ack(2, 11).at(9).healed().send(3, 2).but(Outcome::Failed).receive(vec![]);
    deaf.at(60).receive(vec![got(3, 2, 1, 13)]).ack(3, 13).gives(&[Invariant::I15]);
}

#[test]
fn i16_a_call_outlives_its_deadline() {
    let rules = Rules { call_max: Some(Duration::from_secs(3)), ..RULES };
    let receive = || sent_two().at(10).receive(vec![got(1, 0, 1, 10), got(2, 1, 1, 11)]);
    let acked = |script: Script| script.ack(1, 10).ack(2, 11);
    acked(receive().lasting(Duration::from_millis(4000))).gives_by(rules, &[]);
    acked(receive().lasting(Duration::from_millis(4001))).gives_by(rules, &[Invariant::I16]);
    let hanging = receive().ack(1, 10).ack(2, 11).at(40).but(Outcome::Indeterminate).send(3, 2);
    hanging.lasting(Duration::from_secs(5)).gives_by(rules, &[Invariant::I16]);
    acked(receive()).at(50).down().lasting(Duration::from_secs(30)).gives_by(rules, &[]);
}

#[test]
fn a_reset_to_the_past_brings_everything_again() {
    let acked = || Script::default().send(1, 0).receive(vec![got(1, 0, 1, 10)]).ack(1, 10).progress(1, 1).at(5);
    let again = |script: Script| script.receive(vec![got(1, 0, 1, 11)]).ack(1, 11);
    again(acked().reset(ResetTo::Earliest).progress(0, 0)).gives(&[]);
    again(acked().but(Outcome::Indeterminate).reset(ResetTo::Earliest)).gives(&[]);
    again(acked().but(Outcome::Failed).reset(ResetTo::Earliest)).gives(&[Invariant::I06, Invariant::I12]);
    again(acked().reset(ResetTo::Latest)).gives(&[Invariant::I06]);
    acked().reset(ResetTo::Earliest).gives(&[Invariant::I01]);
    acked().but(Outcome::Indeterminate).reset(ResetTo::Earliest).gives(&[]);
    acked().reset(ResetTo::Earliest).reset(ResetTo::Latest).gives(&[]);
    let held = || Script::default().send(1, 0).receive(vec![got(1, 0, 1, 10)]).at(5);
    again(held().reset(ResetTo::Earliest)).gives(&[]);
    again(held().but(Outcome::Failed).reset(ResetTo::Earliest)).gives(&[Invariant::I04, Invariant::I12]);
}

#[test]
fn a_reset_to_the_end_skips_what_was_sent() {
    let held = || sent_two().receive(vec![got(1, 0, 1, 10)]).at(5);
    let over = |script: Script| script.at(60).receive(vec![]);
    over(held().reset(ResetTo::Latest)).gives(&[]);
    over(held().reset(ResetTo::Latest).release(1, 10)).gives(&[]);
    over(held().but(Outcome::Indeterminate).reset(ResetTo::Latest)).gives(&[]);
    over(held().reset(ResetTo::Earliest)).gives(&[Invariant::I01, Invariant::I05]);
    over(held().but(Outcome::Failed).reset(ResetTo::Latest)).gives(&[Invariant::I01, Invariant::I05]);
    let came = held().reset(ResetTo::Latest).at(60).receive(vec![got(1, 0, 1, 11), got(2, 1, 1, 12)]);
    came.ack(1, 11).ack(2, 12).gives(&[Invariant::I06]);
    over(held().reset(ResetTo::Latest).send(3, 2)).gives(&[Invariant::I01]);
}

#[test]
fn a_message_is_dead_after_its_last_delivery_and_once() {
    let once = || Script::default().send(1, 0).receive(vec![got(1, 0, 1, 10)]).at(20);
    let twice = || once().receive(vec![got(1, 0, 2, 11)]);
    let over = || twice().at(40).receive(vec![]);
    over().dead(&[(1, 1)]).gives(&[]);
    over().ack(1, 11).dead(&[(1, 1)]).gives(&[]);
    over().dead(&[]).gives(&[Invariant::I05]);
    over().dead(&[(1, 1), (1, 1)]).gives(&[Invariant::I12]);
    over().dead(&[(1, 2)]).gives(&[Invariant::I03]);
    once().dead(&[(1, 1)]).gives(&[Invariant::I12]);
    twice().ack(1, 11).dead(&[(1, 1)]).gives(&[Invariant::I06]);
    once().ack(1, 10).dead(&[(1, 1)]).gives(&[Invariant::I06, Invariant::I12]);
    over().receive(vec![got(1, 0, 3, 12)]).ack(1, 12).dead(&[]).gives(&[Invariant::I12]);
    let unseen = || once().but(Outcome::Indeterminate).receive(vec![]).at(60).receive(vec![]);
    unseen().dead(&[(1, 1)]).gives(&[]);
}

#[test]
fn what_is_given_up_is_dead_and_does_not_come_again() {
    let given_up = || Script::default().send(1, 0).receive(vec![got(1, 0, 1, 10)]).give_up(1, 10);
    given_up().dead(&[(1, 1)]).gives(&[]);
    given_up().dead(&[]).gives(&[Invariant::I01]);
    given_up().at(20).receive(vec![got(1, 0, 2, 11)]).ack(1, 11).dead(&[(1, 1)]).gives(&[Invariant::I06]);
    let late = Script::default().send(1, 0).receive(vec![got(1, 0, 1, 10)]).ack(1, 10).give_up(1, 10);
    late.dead(&[]).gives(&[]);
}

/// Messages 4, 5 and 8, of which 4 and 8 are of one message group.
fn in_order() -> Script {
    Script::default().in_order().send(4, 0).send(5, 1).send(8, 2)
}

#[test]
fn a_message_group_comes_in_order() {
    in_order()
        .receive(vec![got(4, 0, 1, 10)])
        .receive(vec![got(5, 1, 1, 11)])
        .ack(4, 10)
        .receive(vec![got(8, 2, 1, 12)])
        .ack(5, 11)
        .ack(8, 12)
        .gives(&[]);
    in_order()
        .receive(vec![got(4, 0, 1, 10), got(5, 1, 1, 10), got(8, 2, 1, 10)])
        .ack(8, 10)
        .ack(5, 10)
        .ack(4, 10)
        .gives(&[]);
}

#[test]
fn a_message_that_overtakes_is_found() {
    let overtaken = || {
        in_order()
            .receive(vec![got(4, 0, 1, 10), got(5, 1, 1, 10)])
            .receive(vec![got(8, 2, 1, 12)])
            .ack(4, 10)
            .ack(5, 10)
            .ack(8, 12)
    };
    overtaken().gives(&[Invariant::I07]);
    Script { calls: overtaken().calls.split_off(1), ..overtaken() }.gives(&[]);
    in_order()
        .receive(vec![got(8, 2, 1, 10), got(5, 1, 1, 10), got(4, 0, 1, 10)])
        .ack(4, 10)
        .ack(5, 10)
        .ack(8, 10)
        .gives(&[Invariant::I07]);
}

#[test]
fn i11_a_committed_offset_never_goes_back_by_itself() {
    let (group, topic) = (|| name("r"), || name("t"));
    let commit = |script: Script, offset: u64| {
        let outcome = script.outcome();
        script.call(What::Commit { group: group(), topic: topic(), queue: 0, offset, outcome })
    };
    let heard = |script: Script, offset: Option<u64>| {
        script.call(What::Committed { group: group(), topic: topic(), queue: 0, offset })
    };
    let told = |script: Script| check(&script.calls, RULES).len();
    let one = || commit(heard(Script::default(), None).at(1), 5).at(2);
    assert_eq!(told(heard(one(), Some(5))), 0);
    assert_eq!(told(heard(one(), None)), 1, "it is lost");
    assert_eq!(told(heard(one(), Some(4))), 1, "nobody said so");
    let two = |outcome| commit(commit(Script::default().at(1), 5).at(2).but(outcome), 7).at(3);
    assert_eq!(told(heard(two(Outcome::Ok), Some(5))), 1, "it went back");
    assert_eq!(told(heard(two(Outcome::Ok), Some(7))), 0);
    assert_eq!(told(heard(two(Outcome::Failed), Some(7))), 1, "it was refused");
    for either in [5, 7] {
        assert_eq!(told(heard(two(Outcome::Indeterminate), Some(either))), 0);
    }
    let doubtful = || commit(commit(Script::default().at(1).but(Outcome::Indeterminate), 5).at(1), 7).at(2);
    assert_eq!(told(heard(doubtful(), Some(5))), 0, "it may have come late");
}
