//! When leases end: the leader's own knowledge, by its monotonic clock, never in the log.
//!
//! An auto-renewed lease comes up for renewal some time before its end; it is renewed when its delivery was
//! confirmed, its client lives and the delivery is younger than three hours. All of this is pure: facts in, keys out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use apogee_host::Monotonic;
use apogee_model::QueueOffset;

use crate::pop::Entry;
use crate::record::QueueOf;

/// Renewal is decided this long before the end of a lease.
const RENEW_AHEAD: Duration = Duration::from_secs(10);
/// A delivery is renewed for at most this long.
pub(crate) const RENEW_MAX: Duration = Duration::from_secs(3 * 3600);
/// A shorter renewal is not worth a record.
const RENEW_MIN: Duration = Duration::from_secs(1);
/// What two messages of one proxy, which are on their way for different times, may make of one moment.
const SAME_TIME: Duration = Duration::from_millis(50);
/// A delivery that its consumer has is first renewed this soon: from then on the log says that it does, and the next leader
/// knows. Most are settled earlier and cost nothing.
const RENEW_FIRST: Duration = Duration::from_secs(2);
/// A client nobody heard for this long is lost.
pub(crate) const CLIENT_LOST_AFTER: Duration = Duration::from_secs(90);

/// One unsettled message of one group.
pub(crate) type Key = (QueueOf, QueueOffset);

/// All running leases and the clients that hold renewable ones.
#[derive(Debug, Default)]
pub(crate) struct LeaseClock {
    leases: HashMap<Key, Live>,
    timers: BTreeSet<(Monotonic, Timer)>,
    clients: BTreeMap<u64, Client>,
}

#[derive(Copy, Clone, Debug)]
struct Live {
    ends: Monotonic,
    fires: Monotonic,
    renew_until: Monotonic,
    delivery: u64,
    client: u64,
    auto_renew: bool,
    confirmed: bool,
    /// The log says that it is confirmed.
    logged: bool,
}

#[derive(Debug)]
struct Client {
    heard: Monotonic,
    lost: bool,
    holds: BTreeSet<Key>,
}

impl Client {
    fn lives(&self, now: Monotonic) -> bool {
        !self.lost && now.saturating_sub(self.heard) < CLIENT_LOST_AFTER
    }
}

#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Timer {
    Lease(Key),
    Client(u64),
}

/// What a lease whose time came needs.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Due {
    /// It ended: the message is ready for another consumer.
    Ready(Key),
    /// Its client still works on the message: renew it for this long.
    Renew(Key, Duration),
}

impl LeaseClock {
    /// Starts, moves or replaces a lease that has `remaining` to run and was granted `age` ago.
    pub(crate) fn start(&mut self, key: Key, entry: &Entry, now: Monotonic, remaining: Duration, age: Duration) {
        let renewable_for = || now + RENEW_MAX.saturating_sub(age);
        let earlier = self.remove(key).filter(|earlier| earlier.delivery == entry.delivery.0);
        let (confirmed, renew_until) = match earlier {
            // The same delivery goes on: what this clock knows of it is better than what log times say.
            Some(earlier) => (earlier.confirmed || entry.confirmed, earlier.renew_until),
            None => (entry.confirmed, renewable_for()),
        };
        let ends = now + remaining;
        let fires = match remaining.checked_sub(RENEW_AHEAD) {
            Some(first) if entry.auto_renew && !entry.confirmed => now + first.min(RENEW_FIRST),
            Some(next) if entry.auto_renew => now + next,
            _ => ends,
        };
        let (delivery, client, auto_renew, logged) =
            (entry.delivery.0, entry.client, entry.auto_renew, entry.confirmed);
        self.leases.insert(key, Live { ends, fires, renew_until, delivery, client, auto_renew, confirmed, logged });
        self.timers.insert((fires, Timer::Lease(key)));
        if auto_renew {
            self.hold(client, key, now);
        }
    }

    fn hold(&mut self, id: u64, key: Key, now: Monotonic) {
        let timers = &mut self.timers;
        let client = self.clients.entry(id).or_insert_with(|| {
            timers.insert((now + CLIENT_LOST_AFTER, Timer::Client(id)));
            Client { heard: now, lost: false, holds: BTreeSet::new() }
        });
        client.holds.insert(key);
        if client.lost {
            // A renewal that was on its way when its client went.
            self.refire(key, now, Some(now));
        }
    }

    /// Ends a lease without a word: its message was settled or is gone.
    pub(crate) fn stop(&mut self, key: Key) {
        self.remove(key);
    }

    fn remove(&mut self, key: Key) -> Option<Live> {
        let live = self.leases.remove(&key)?;
        self.timers.remove(&(live.fires, Timer::Lease(key)));
        if let Some(client) = self.clients.get_mut(&live.client).filter(|_| live.auto_renew) {
            client.holds.remove(&key);
        }
        Some(live)
    }

    /// Whether the lease of this message runs, or ended and nobody has asked since.
    pub(crate) fn runs(&self, key: Key) -> bool {
        self.leases.contains_key(&key)
    }

    /// The consumer has the message of this delivery, which the log says soon, however late this is.
    pub(crate) fn confirm(&mut self, key: Key, delivery: u64, now: Monotonic) {
        let Some(live) = self.leases.get_mut(&key).filter(|live| live.delivery == delivery) else { return };
        live.confirmed = true;
        let soon = now + RENEW_FIRST;
        if live.auto_renew && !live.logged && live.fires > soon {
            self.refire(key, soon, None);
        }
    }

    /// What only this clock knows is due at once: that consumers have deliveries of which the log does not say it yet.
    pub(crate) fn hurry(&mut self, now: Monotonic) {
        let unsaid = |live: &Live| live.auto_renew && live.confirmed && !live.logged;
        let keys: Vec<Key> = self.leases.iter().filter(|(_, live)| unsaid(live)).map(|(key, _)| *key).collect();
        for key in keys {
            self.refire(key, now, None);
        }
    }

    /// Somebody heard this client then.
    pub(crate) fn heard(&mut self, client: u64, at: Monotonic) {
        if let Some(client) = self.clients.get_mut(&client).filter(|client| client.heard <= at) {
            (client.heard, client.lost) = (at, false);
        }
    }

    /// A proxy has no connection to the client any more, and heard it last `ago`. The client is gone, unless somebody heard
    /// it later: then it went to another proxy.
    pub(crate) fn hung_up(&mut self, client: u64, now: Monotonic, ago: Duration) {
        let heard_later = |client: &Client| client.heard > now.before(ago) + SAME_TIME;
        if !self.clients.get(&client).is_some_and(heard_later) {
            self.lost(client, now);
        }
    }

    /// The client is gone: its renewable leases end now.
    pub(crate) fn lost(&mut self, client: u64, now: Monotonic) {
        let Some(client) = self.clients.get_mut(&client) else { return };
        client.lost = true;
        for key in client.holds.clone() {
            self.refire(key, now, Some(now));
        }
    }

    fn refire(&mut self, key: Key, fires: Monotonic, ends: Option<Monotonic>) {
        let Some(live) = self.leases.get_mut(&key) else { return };
        self.timers.remove(&(live.fires, Timer::Lease(key)));
        live.fires = fires;
        live.ends = ends.unwrap_or(live.ends);
        self.timers.insert((fires, Timer::Lease(key)));
    }

    /// When [`LeaseClock::due`] has something to say again.
    pub(crate) fn next(&self) -> Option<Monotonic> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Everything whose time has come. A ready message leaves the clock; one to renew stays until its end.
    pub(crate) fn due(&mut self, now: Monotonic) -> Vec<Due> {
        let mut due = Vec::new();
        while let Some((_, timer)) = self.timers.pop_first_if(|(at, _)| *at <= now) {
            match timer {
                Timer::Client(id) => self.client_due(id, now),
                Timer::Lease(key) => due.extend(self.lease_due(key, now)),
            }
        }
        due
    }

    fn lease_due(&mut self, key: Key, now: Monotonic) -> Option<Due> {
        let live = *self.leases.get(&key).expect("a timer is removed with its lease");
        if let Some(renewal) = self.renewal(&live, now) {
            // Should the renewal not come through, the lease ends when it would have.
            if now < live.ends {
                self.refire(key, live.ends, None);
            } else {
                self.refire(key, now + RENEW_AHEAD, Some(now + RENEW_AHEAD));
            }
            return Some(Due::Renew(key, renewal));
        }
        if now < live.ends {
            let last = live.ends.before(RENEW_AHEAD);
            self.refire(key, if now < last { last } else { live.ends }, None);
            return None;
        }
        self.remove(key);
        Some(Due::Ready(key))
    }

    fn renewal(&self, live: &Live, now: Monotonic) -> Option<Duration> {
        let lives = self.clients.get(&live.client).is_some_and(|client| client.lives(now));
        let left = live.renew_until.saturating_sub(now);
        let renewable = live.auto_renew && live.confirmed && lives && left >= RENEW_MIN;
        renewable.then(|| left.min(apogee_model::InvisibleDuration::AUTO_RENEW.get()))
    }

    fn client_due(&mut self, id: u64, now: Monotonic) {
        let Some(client) = self.clients.get(&id) else { return };
        if client.holds.is_empty() {
            self.clients.remove(&id);
        } else if !client.lives(now) {
            self.lost(id, now);
            self.timers.insert((now + CLIENT_LOST_AFTER, Timer::Client(id)));
        } else {
            self.timers.insert((client.heard + CLIENT_LOST_AFTER, Timer::Client(id)));
        }
    }
}

trait PopFirstIf<T> {
    fn pop_first_if(&mut self, wanted: impl FnOnce(&T) -> bool) -> Option<T>;
}

impl<T: Ord> PopFirstIf<T> for BTreeSet<T> {
    fn pop_first_if(&mut self, wanted: impl FnOnce(&T) -> bool) -> Option<T> {
        if wanted(self.first()?) { self.pop_first() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use apogee_model::{DeliverySeq, Epoch, GroupId, QueueId, Timestamp, TopicId};

    const CLIENT: u64 = 5;

    fn key() -> Key {
        (QueueOf { group: GroupId(1), topic: TopicId(1), queue: QueueId(0) }, QueueOffset(0))
    }

    fn entry(auto_renew: bool) -> Entry {
        Entry {
            delivery: DeliverySeq(1),
            attempt: 1,
            granted_at: Timestamp(0),
            epoch: Epoch(1),
            lease_from: Timestamp(0),
            duration_ms: 60_000,
            attempt_id: 0,
            client: CLIENT,
            auto_renew,
            confirmed: false,
            replayed: false,
            suspended: false,
        }
    }

    fn at(seconds: u64) -> Monotonic {
        Monotonic::from_duration(Duration::from_secs(seconds))
    }

    fn clock(auto_renew: bool) -> LeaseClock {
        let mut clock = LeaseClock::default();
        clock.start(key(), &entry(auto_renew), at(0), Duration::from_secs(60), Duration::ZERO);
        clock
    }

    #[test]
    fn a_fixed_lease_ends_once() {
        let mut clock = clock(false);
        assert_eq!(clock.due(at(59)), []);
        assert_eq!(clock.due(at(60)), [Due::Ready(key())]);
        assert_eq!((clock.due(at(600)), clock.next()), (vec![], None));
    }

    #[test]
    fn an_unconfirmed_delivery_ends_at_60_s() {
        let mut clock = clock(true);
        assert_eq!(clock.due(at(50)), []);
        assert_eq!(clock.due(at(60)), [Due::Ready(key())]);
    }

    #[test]
    fn that_a_consumer_has_its_delivery_is_in_the_log_soon() {
        let mut clock = clock(true);
        clock.confirm(key(), 1, at(0));
        assert_eq!(clock.due(at(1)), []);
        assert_eq!(clock.due(at(2)), [Due::Renew(key(), Duration::from_secs(60))]);
        let renewed = Entry { confirmed: true, ..entry(true) };
        clock.start(key(), &renewed, at(2), Duration::from_secs(60), Duration::from_secs(2));
        assert_eq!(clock.due(at(51)), []);
        assert_eq!(clock.due(at(52)), [Due::Renew(key(), Duration::from_secs(60))]);
    }

    #[test]
    fn a_late_word_that_a_consumer_has_its_delivery_is_in_the_log_soon_too() {
        let mut clock = clock(true);
        assert_eq!(clock.due(at(3)), [], "it is not known yet that the consumer has it");
        clock.confirm(key(), 1, at(20));
        assert_eq!(clock.due(at(21)), []);
        assert_eq!(clock.due(at(22)), [Due::Renew(key(), Duration::from_secs(60))]);
        let renewed = Entry { confirmed: true, ..entry(true) };
        clock.start(key(), &renewed, at(22), Duration::from_secs(60), Duration::from_secs(22));
        clock.confirm(key(), 1, at(23));
        assert_eq!(clock.due(at(71)), [], "said twice, it makes no difference");
    }

    #[test]
    fn the_next_leader_knows_who_has_a_delivery() {
        let mut clock = clock(true);
        clock.hurry(at(0));
        assert_eq!(clock.due(at(0)), [], "nobody has it yet");
        clock.confirm(key(), 1, at(0));
        clock.hurry(at(1));
        assert_eq!(clock.due(at(1)), [Due::Renew(key(), Duration::from_secs(60))]);
        let logged = Entry { confirmed: true, ..entry(true) };
        clock.start(key(), &logged, at(1), Duration::from_secs(60), Duration::from_secs(1));
        clock.hurry(at(2));
        assert_eq!(clock.due(at(2)), []);
    }

    #[test]
    fn a_client_that_went_to_another_proxy_keeps_its_messages() {
        let mut clock = clock(true);
        clock.confirm(key(), 1, at(0));
        clock.heard(CLIENT, at(3));
        clock.hung_up(CLIENT, at(14), Duration::from_secs(12));
        assert_eq!(clock.due(at(14)), [Due::Renew(key(), Duration::from_secs(60))], "heard at 3 s, here at 2 s last");
        clock.hung_up(CLIENT, at(15), Duration::from_secs(12));
        assert_eq!(clock.due(at(15)), [Due::Ready(key())]);
    }

    #[test]
    fn a_confirmed_delivery_is_renewed_while_its_client_is_heard() {
        let mut clock = clock(true);
        clock.confirm(key(), 1, at(0));
        assert_eq!(clock.due(at(50)), [Due::Renew(key(), Duration::from_secs(60))]);
        clock.start(
            key(),
            &Entry { confirmed: true, ..entry(true) },
            at(50),
            Duration::from_secs(60),
            Duration::from_secs(50),
        );
        clock.heard(CLIENT, at(80));
        assert_eq!(clock.due(at(100)), [Due::Renew(key(), Duration::from_secs(60))]);
        clock.start(
            key(),
            &Entry { confirmed: true, ..entry(true) },
            at(100),
            Duration::from_secs(60),
            Duration::from_secs(100),
        );
        assert_eq!(clock.due(at(149)), []);
        assert_eq!(clock.due(at(170)), [Due::Ready(key())], "unheard for 90 s since 80 s");
    }

    #[test]
    fn a_lost_client_gives_its_messages_back_at_once() {
        let mut clock = clock(true);
        clock.confirm(key(), 1, at(0));
        clock.lost(CLIENT, at(5));
        assert_eq!(clock.due(at(5)), [Due::Ready(key())]);
    }

    #[test]
    fn a_renewal_that_comes_after_its_client_went_renews_nothing() {
        let mut clock = clock(true);
        clock.confirm(key(), 1, at(0));
        assert_eq!(clock.due(at(50)), [Due::Renew(key(), Duration::from_secs(60))]);
        clock.lost(CLIENT, at(50));
        clock.start(key(), &Entry { confirmed: true, ..entry(true) }, at(50), Duration::from_secs(60), Duration::ZERO);
        assert_eq!(clock.due(at(50)), [Due::Ready(key())]);
    }

    #[test]
    fn a_client_that_comes_back_is_renewed_again() {
        let mut clock = clock(true);
        clock.lost(CLIENT, at(5));
        assert_eq!(clock.due(at(5)), [Due::Ready(key())]);
        clock.heard(CLIENT, at(6));
        let again = Entry { delivery: DeliverySeq(2), confirmed: true, ..entry(true) };
        clock.start(key(), &again, at(6), Duration::from_secs(60), Duration::ZERO);
        assert_eq!(clock.due(at(56)), [Due::Renew(key(), Duration::from_secs(60))]);
    }

    #[test]
    fn renewal_ends_three_hours_after_the_delivery() {
        let mut clock = LeaseClock::default();
        let age = RENEW_MAX - Duration::from_secs(70);
        clock.start(key(), &Entry { confirmed: true, ..entry(true) }, at(20_000), Duration::from_secs(60), age);
        assert_eq!(clock.due(at(20_050)), [Due::Renew(key(), Duration::from_secs(20))]);
        let age = RENEW_MAX - Duration::from_secs(20);
        clock.start(key(), &Entry { confirmed: true, ..entry(true) }, at(20_050), Duration::from_secs(20), age);
        clock.heard(CLIENT, at(20_055));
        assert_eq!(clock.due(at(20_060)), [Due::Renew(key(), Duration::from_secs(10))]);
        assert_eq!(clock.due(at(20_070)), [Due::Ready(key())]);
    }
}
