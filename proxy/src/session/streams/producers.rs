//! Streams on which somebody said that it produces to a topic: whoever is found here can be told something now.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use apogee_model::{ClientId, Topic};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::{Inner, OpenStream, Sent, Streams, Taken, Word};

/// How long a client may take before another one is told.
const TAKEN_MAX: Duration = Duration::from_secs(2);
/// Producers that are tried for one thing.
const TRIES_MAX: usize = 4;
/// Topics of one stream that are remembered.
const TOPICS_MAX: usize = 1024;

/// Who produces to which topics, by the numbers of streams.
#[derive(Debug, Default)]
pub(super) struct Producers {
    of_topic: BTreeMap<Topic, Turns>,
}

/// Everybody who produces to one topic.
#[derive(Debug, Default)]
struct Turns {
    streams: BTreeSet<u64>,
    /// Who was told something last.
    last: u64,
}

impl Streams {
    /// The topics somebody produces to who can be told something.
    pub(crate) fn produced(&self) -> Vec<Topic> {
        self.inner().producers.of_topic.keys().cloned().collect()
    }

    /// Waits until [`Streams::produced`] may be another. Cancel safe, for one who waits.
    pub(crate) async fn produced_changed(&self) {
        self.produced_changed.notified().await;
    }

    /// Says something to one producer of the topic, in turn. Returns who took it; nobody did when there is none, or when
    /// those that were tried did not take it within 2 s each.
    pub(crate) async fn tell_a_producer(&self, topic: &Topic, word: &Word) -> Option<ClientId> {
        let mut tried = BTreeSet::new();
        while tried.len() < TRIES_MAX {
            let (client, inbox) = self.inner().next_producer(topic, &mut tried)?;
            let (taken, reached) = oneshot::channel();
            if inbox.try_send(Sent { word: word.clone(), taken: Taken::Tell(taken) }).is_ok()
                && matches!(timeout(TAKEN_MAX, reached).await, Ok(Ok(())))
            {
                return Some(client);
            }
        }
        None
    }
}

impl OpenStream {
    /// The client says that it produces to these topics, and to no others.
    pub(crate) fn produces(&self, topics: &[Topic]) {
        let topics: BTreeSet<Topic> = topics.iter().take(TOPICS_MAX).cloned().collect();
        let mut guard = self.streams.inner();
        let Inner { open, producers, .. } = &mut *guard;
        let Some(end) = open.get_mut(&self.number) else { return };
        let before = std::mem::replace(&mut end.produces, topics.clone());
        let joined = producers.join(self.number, &topics);
        let left = producers.leave(self.number, before.difference(&topics));
        drop(guard);
        if joined || left {
            self.streams.produced_changed.notify_one();
        }
    }
}

impl Inner {
    /// Whose turn it is of those that were not tried.
    fn next_producer(&mut self, topic: &Topic, tried: &mut BTreeSet<u64>) -> Option<(ClientId, mpsc::Sender<Sent>)> {
        let number = self.producers.next(topic, tried)?;
        tried.insert(number);
        let end = self.open.get(&number)?;
        Some((end.client.clone(), end.inbox.clone()))
    }
}

impl Producers {
    /// Whether a topic has its first producer now.
    fn join(&mut self, number: u64, topics: &BTreeSet<Topic>) -> bool {
        let mut first = false;
        for topic in topics {
            let turns = self.of_topic.entry(topic.clone()).or_default();
            first |= turns.streams.is_empty();
            turns.streams.insert(number);
        }
        first
    }

    /// Whether nobody produces to one of the topics any more.
    pub(super) fn leave<'a>(&mut self, number: u64, topics: impl IntoIterator<Item = &'a Topic>) -> bool {
        let mut over = false;
        for topic in topics {
            let Some(turns) = self.of_topic.get_mut(topic) else { continue };
            turns.streams.remove(&number);
            if turns.streams.is_empty() {
                self.of_topic.remove(topic);
                over = true;
            }
        }
        over
    }

    fn next(&mut self, topic: &Topic, tried: &BTreeSet<u64>) -> Option<u64> {
        let Turns { streams, last } = self.of_topic.get_mut(topic)?;
        let mut behind = streams.range((Bound::Excluded(*last), Bound::Unbounded)).chain(streams.iter());
        *last = *behind.find(|number| !tried.contains(number))?;
        Some(*last)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use apogee_model::store::{CheckBack, HalfId};
    use apogee_model::{QueueId, StoredMessage, Timestamp, TopicId};
    use futures::FutureExt as _;

    use super::super::tests::{id, streams};
    use super::*;

    fn topic(name: &str) -> Topic {
        Topic::parse("", name).unwrap()
    }

    fn word() -> Word {
        let check = CheckBack {
            topic: TopicId(1),
            queue: QueueId(0),
            id: HalfId(1),
            check: 1,
            stored_at: Timestamp(0),
            message: StoredMessage::default(),
        };
        Word::CheckBack { check: Arc::new(check), transaction_id: String::new() }
    }

    fn open(streams: &Arc<Streams>, client: &str, topics: &[&str]) -> OpenStream {
        let stream = streams.open(&id(client));
        stream.produces(&topics.iter().map(|name| topic(name)).collect::<Vec<_>>());
        stream
    }

    /// A client that takes whatever it is told, until it is woken.
    async fn listen(mut stream: OpenStream, until: &tokio::sync::Notify) {
        loop {
            tokio::select! {
                () = until.notified() => return,
                _ = stream.next() => {}
            }
        }
    }

    async fn told(streams: &Streams, name: &str) -> Option<String> {
        streams.tell_a_producer(&topic(name), &word()).await.map(|client| client.to_string())
    }

    #[tokio::test(start_paused = true)]
    async fn producers_of_a_topic_are_told_in_turn() {
        let streams = streams();
        assert_eq!(told(&streams, "a").await, None);
        let (first, second) = (open(&streams, "first", &["a", "b"]), open(&streams, "second", &["a"]));
        let (leave, never) = (tokio::sync::Notify::new(), tokio::sync::Notify::new());
        let all = async {
            let mut names = Vec::new();
            for name in ["a", "a", "a", "b", "b", "c"] {
                names.push(told(&streams, name).await);
            }
            leave.notify_one();
            while streams.of(&id("first")) > 0 {
                tokio::task::yield_now().await;
            }
            names.push(told(&streams, "a").await);
            names.push(told(&streams, "b").await);
            names
        };
        let names = tokio::select! {
            names = all => names,
            _ = async { tokio::join!(listen(first, &leave), listen(second, &never)) } => panic!("one listens on"),
        };
        let names: Vec<_> = names.iter().map(|name| name.as_deref().unwrap_or("-")).collect();
        assert_eq!(names, ["first", "second", "first", "first", "first", "-", "second", "-"]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_take_it_is_passed_over() {
        let streams = streams();
        let began = tokio::time::Instant::now();
        let _stuck = open(&streams, "stuck", &["a"]);
        let mut gone = open(&streams, "gone", &["a"]);
        gone.inbox.close();
        assert_eq!(told(&streams, "a").await, None);
        assert_eq!(began.elapsed(), TAKEN_MAX, "only one could have taken it");
        let (awake, never) = (open(&streams, "awake", &["a"]), tokio::sync::Notify::new());
        let name = tokio::select! {
            name = told(&streams, "a") => name,
            () = listen(awake, &never) => panic!("it listens on"),
        };
        assert_eq!(name.as_deref(), Some("awake"));
    }

    #[tokio::test(start_paused = true)]
    async fn who_hangs_up_is_passed_over_at_once() {
        let streams = streams();
        let began = tokio::time::Instant::now();
        let gone = open(&streams, "gone", &["a"]);
        let (name, ()) = tokio::join!(told(&streams, "a"), async { drop(gone) });
        assert_eq!((name, began.elapsed()), (None, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_are_tried_and_then_no_more() {
        let streams = streams();
        let began = tokio::time::Instant::now();
        let stuck: Vec<_> = (0..=TRIES_MAX).map(|_| open(&streams, "stuck", &["a"])).collect();
        assert_eq!(told(&streams, "a").await, None);
        assert_eq!(began.elapsed(), TAKEN_MAX * 4);
        drop(stuck);
    }

    #[tokio::test]
    async fn what_is_produced_changes_with_what_the_streams_say() {
        let streams = streams();
        let produced = || streams.produced().iter().map(Topic::to_string).collect::<Vec<_>>();
        let changed = || streams.produced_changed().now_or_never().is_some();
        let one = open(&streams, "one", &["a", "b", "a"]);
        let other = open(&streams, "other", &["b"]);
        assert_eq!((produced(), changed()), (vec!["a".into(), "b".into()], true));
        one.produces(&[topic("c"), topic("b")]);
        assert_eq!((produced(), changed()), (vec!["b".into(), "c".into()], true));
        one.produces(&[topic("b"), topic("c")]);
        drop(other);
        assert!(!changed(), "the same topics have producers");
        drop(one);
        assert_eq!((produced(), changed()), (vec![], true));
    }
}
