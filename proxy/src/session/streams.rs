//! Open telemetry streams: what a server has to say to a client that did not ask goes out on one of them.
//!
//! Who produces to a topic is known by the streams on which that was said, so whoever is found here can be told
//! something now.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use apogee_model::store::CheckBack;
use apogee_model::{ClientId, Topic};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::timeout;

/// Things that wait for one stream.
const WAITING_MAX: usize = 16;
/// How long a client may take before another one is told.
const TAKEN_MAX: Duration = Duration::from_secs(2);
/// Producers that are tried for one thing.
const TRIES_MAX: usize = 4;
/// Topics of one stream that are remembered.
const TOPICS_MAX: usize = 1024;

/// What a client can be told.
#[derive(Clone, Debug)]
pub(crate) enum Say {
    /// It is to say what became of a transaction, of which the client knows this id.
    CheckBack { check: Arc<CheckBack>, transaction_id: String },
}

/// Something on its way to a stream.
#[derive(Debug)]
pub(crate) struct Saying {
    pub(crate) say: Say,
    taken: oneshot::Sender<()>,
}

impl Saying {
    /// The transport has it.
    pub(crate) fn take(self) -> Say {
        let _nobody_waits_any_more = self.taken.send(());
        self.say
    }
}

/// All open streams of a proxy. One small lock, never held across a wait.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    inner: Mutex<Inner>,
    /// Topics have been named for the first time, or nobody names them any more.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    open: BTreeMap<u64, Known>,
    producers: BTreeMap<Topic, Producers>,
}

#[derive(Debug)]
struct Known {
    client: ClientId,
    inbox: mpsc::Sender<Saying>,
    produces: BTreeSet<Topic>,
}

/// Streams on which somebody said that it produces to a topic.
#[derive(Debug, Default)]
struct Producers {
    streams: BTreeSet<u64>,
    /// Who was told something last.
    last: u64,
}

/// One open stream; dropped, it is closed.
#[derive(Debug)]
pub(crate) struct OpenStream {
    number: u64,
    streams: Arc<Streams>,
}

impl Streams {
    /// A stream of this client opens. What is said on it comes out of the inbox.
    pub(crate) fn open(self: &Arc<Self>, client: &ClientId) -> (OpenStream, mpsc::Receiver<Saying>) {
        let (inbox, sayings) = mpsc::channel(WAITING_MAX);
        let mut inner = self.inner();
        inner.last += 1;
        let number = inner.last;
        inner.open.insert(number, Known { client: client.clone(), inbox, produces: BTreeSet::new() });
        (OpenStream { number, streams: Arc::clone(self) }, sayings)
    }

    /// The topics somebody produces to who can be told something.
    pub(crate) fn produced(&self) -> Vec<Topic> {
        self.inner().producers.keys().cloned().collect()
    }

    /// Waits until [`Streams::produced`] may be another. Cancel safe, for one who waits.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Says something to one producer of the topic, in turn. Returns who took it; nobody did when there is none, or when
    /// those that were tried did not take it within 2 s each.
    pub(crate) async fn tell_a_producer(&self, topic: &Topic, say: &Say) -> Option<ClientId> {
        let mut tried = BTreeSet::new();
        while tried.len() < TRIES_MAX {
            let (number, client, inbox) = self.next_producer(topic, &tried)?;
            tried.insert(number);
            let (taken, reached) = oneshot::channel();
            if inbox.try_send(Saying { say: say.clone(), taken }).is_ok()
                && matches!(timeout(TAKEN_MAX, reached).await, Ok(Ok(())))
            {
                return Some(client);
            }
        }
        None
    }

    fn next_producer(&self, topic: &Topic, tried: &BTreeSet<u64>) -> Option<(u64, ClientId, mpsc::Sender<Saying>)> {
        let mut inner = self.inner();
        let Inner { open, producers, .. } = &mut *inner;
        let line = producers.get_mut(topic)?;
        let behind = line.streams.range((Bound::Excluded(line.last), Bound::Unbounded));
        let number = *behind.chain(line.streams.iter()).find(|number| !tried.contains(*number))?;
        line.last = number;
        let Known { client, inbox, .. } = open.get(&number)?;
        Some((number, client.clone(), inbox.clone()))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenStream {
    /// The client says that it produces to these topics, and to no others.
    pub(crate) fn produces(&self, topics: &[Topic]) {
        let topics: BTreeSet<Topic> = topics.iter().take(TOPICS_MAX).cloned().collect();
        let mut inner = self.streams.inner();
        let Some(known) = inner.open.get_mut(&self.number) else { return };
        let before = std::mem::replace(&mut known.produces, topics.clone());
        let mut changed = false;
        for topic in &topics {
            let line = inner.producers.entry(topic.clone()).or_default();
            changed |= line.streams.is_empty();
            line.streams.insert(self.number);
        }
        for topic in before.difference(&topics) {
            changed |= inner.leave(topic, self.number);
        }
        drop(inner);
        if changed {
            self.streams.changed.notify_one();
        }
    }
}

impl Inner {
    /// Whether nobody produces to the topic any more.
    fn leave(&mut self, topic: &Topic, number: u64) -> bool {
        let Some(line) = self.producers.get_mut(topic) else { return false };
        line.streams.remove(&number);
        let over = line.streams.is_empty();
        if over {
            self.producers.remove(topic);
        }
        over
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let mut inner = self.streams.inner();
        let Some(known) = inner.open.remove(&self.number) else { return };
        let mut changed = false;
        for topic in &known.produces {
            changed |= inner.leave(topic, self.number);
        }
        drop(inner);
        if changed {
            self.streams.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use apogee_model::store::HalfId;
    use apogee_model::{QueueId, StoredMessage, Timestamp, TopicId};
    use futures::FutureExt as _;

    use super::*;

    fn topic(name: &str) -> Topic {
        Topic::parse("", name).unwrap()
    }

    fn say() -> Say {
        let check = CheckBack {
            topic: TopicId(1),
            queue: QueueId(0),
            id: HalfId(1),
            check: 1,
            stored_at: Timestamp(0),
            message: StoredMessage::default(),
        };
        Say::CheckBack { check: Arc::new(check), transaction_id: String::new() }
    }

    fn open(streams: &Arc<Streams>, client: &str, topics: &[&str]) -> (OpenStream, mpsc::Receiver<Saying>) {
        let (stream, sayings) = streams.open(&ClientId::parse(client).unwrap());
        stream.produces(&topics.iter().map(|name| topic(name)).collect::<Vec<_>>());
        (stream, sayings)
    }

    /// A client that takes whatever it is told.
    async fn listen(mut sayings: mpsc::Receiver<Saying>) {
        while let Some(saying) = sayings.recv().await {
            saying.take();
        }
    }

    async fn told(streams: &Streams, name: &str) -> Option<String> {
        streams.tell_a_producer(&topic(name), &say()).await.map(|client| client.to_string())
    }

    #[tokio::test(start_paused = true)]
    async fn producers_of_a_topic_are_told_in_turn() {
        let streams = Arc::new(Streams::default());
        assert_eq!(told(&streams, "a").await, None);
        let (first, of_first) = open(&streams, "first", &["a", "b"]);
        let (_second, of_second) = open(&streams, "second", &["a"]);
        let all = async {
            let mut names = Vec::new();
            for name in ["a", "a", "a", "b", "b", "c"] {
                names.push(told(&streams, name).await);
            }
            drop(first);
            names.push(told(&streams, "a").await);
            names.push(told(&streams, "b").await);
            names
        };
        let names = tokio::select! {
            names = all => names,
            _ = async { tokio::join!(listen(of_first), listen(of_second), std::future::pending::<()>()) } => panic!(),
        };
        let names: Vec<_> = names.iter().map(|name| name.as_deref().unwrap_or("-")).collect();
        assert_eq!(names, ["first", "second", "first", "first", "first", "-", "second", "-"]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_take_it_is_passed_over() {
        let streams = Arc::new(Streams::default());
        let (_stuck, _unread) = open(&streams, "stuck", &["a"]);
        let (_gone, unread) = open(&streams, "gone", &["a"]);
        drop(unread);
        assert_eq!(told(&streams, "a").await, None);
        let (_awake, sayings) = open(&streams, "awake", &["a"]);
        let name = tokio::select! {
            name = told(&streams, "a") => name,
            () = listen(sayings) => panic!(),
        };
        assert_eq!(name.as_deref(), Some("awake"));
    }

    #[tokio::test]
    async fn what_is_produced_changes_with_what_the_streams_say() {
        let streams = Arc::new(Streams::default());
        let produced = || streams.produced().iter().map(Topic::to_string).collect::<Vec<_>>();
        let changed = || streams.changed().now_or_never().is_some();
        let (one, _inbox) = open(&streams, "one", &["a", "b", "a"]);
        let (other, _inbox) = open(&streams, "other", &["b"]);
        assert_eq!((produced(), changed()), (vec!["a".into(), "b".into()], true));
        one.produces(&[topic("c"), topic("b")]);
        assert_eq!((produced(), changed()), (vec!["b".into(), "c".into()], true));
        one.produces(&[topic("b"), topic("c")]);
        drop(other);
        assert!(!changed(), "the same topics have producers");
        drop(one);
        assert_eq!((produced(), changed()), (vec![], true));
        let inner = streams.inner();
        assert!(inner.open.is_empty() && inner.producers.is_empty(), "who is gone is forgotten everywhere");
    }
}
