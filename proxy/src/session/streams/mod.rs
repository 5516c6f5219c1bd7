//! Open telemetry streams: what a proxy has to say to a client that did not ask goes out on one of them.
//!
//! Whatever it is, it is a [`Word`]; a new one is a variant there, and its command in `edge/telemetry.rs`. It goes to a
//! client, as questions do, or to some producer of a topic, as check-backs do.

mod producers;
mod questions;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use apogee_host::Entropy;
use apogee_model::store::CheckBack;
use apogee_model::{ClientId, Topic};
use tokio::sync::{Notify, mpsc, oneshot};

use self::producers::Producers;
use self::questions::Questions;
pub(crate) use self::questions::{Asked, Candidate, Question, QuestionKind, Said, Unanswered};

/// Words that wait for one stream.
const WAITING_MAX: usize = 16;

/// What comes to a stream from inside.
#[derive(Clone, Debug)]
pub(crate) enum Word {
    /// What was agreed with the client may not hold any more.
    Stale,
    /// The client is asked, and answers with the nonce.
    Asked(Asked),
    /// The client is to say what became of a transaction, which it knows by this id.
    CheckBack { check: Arc<CheckBack>, transaction_id: String },
    /// Another client of the group took a lite topic over.
    Evicted { lite_topic: Box<str> },
}

/// All open streams of a proxy. One small lock, never held across a wait.
pub(crate) struct Streams {
    /// Draws nonces.
    entropy: Arc<dyn Entropy>,
    inner: Mutex<Inner>,
    /// Topics have been named for the first time, or nobody names them any more.
    produced_changed: Notify,
}

#[derive(Default)]
struct Inner {
    /// Number of the stream that opened last.
    last: u64,
    open: BTreeMap<u64, End>,
    of_client: BTreeMap<ClientId, BTreeSet<u64>>,
    producers: Producers,
    questions: Questions,
}

/// Our end of a stream.
struct End {
    client: ClientId,
    inbox: mpsc::Sender<Sent>,
    stale: Arc<Notify>,
    /// What its client said that it produces to.
    produces: BTreeSet<Topic>,
}

/// A word on its way.
struct Sent {
    word: Word,
    taken: Taken,
}

/// Who hears that a word was taken by the stream.
enum Taken {
    Nobody,
    Tell(oneshot::Sender<()>),
}

/// The other end, of the task that writes the stream; closes on drop.
pub(crate) struct OpenStream {
    streams: Arc<Streams>,
    number: u64,
    inbox: mpsc::Receiver<Sent>,
    stale: Arc<Notify>,
}

impl Streams {
    pub(crate) fn new(entropy: Arc<dyn Entropy>) -> Self {
        Self { entropy, inner: Mutex::default(), produced_changed: Notify::new() }
    }

    /// A stream of this client opens.
    pub(crate) fn open(self: &Arc<Self>, client: &ClientId) -> OpenStream {
        let (sender, inbox) = mpsc::channel(WAITING_MAX);
        let stale = Arc::new(Notify::new());
        let end = End { client: client.clone(), inbox: sender, stale: Arc::clone(&stale), produces: BTreeSet::new() };
        let mut inner = self.inner();
        inner.last += 1;
        let number = inner.last;
        inner.open.insert(number, end);
        inner.of_client.entry(client.clone()).or_default().insert(number);
        OpenStream { streams: Arc::clone(self), number, inbox, stale }
    }

    /// How many streams of the client are open.
    pub(crate) fn of(&self, client: &ClientId) -> usize {
        self.inner().of_client.get(client).map_or(0, BTreeSet::len)
    }

    /// Lets the streams of these clients look again at what was agreed. One that has not yet looked does so once, and a full
    /// inbox is nothing to it.
    pub(crate) fn stale(&self, clients: &[ClientId]) {
        let inner = self.inner();
        for number in clients.iter().filter_map(|client| inner.of_client.get(client)).flatten() {
            if let Some(end) = inner.open.get(number) {
                end.stale.notify_one();
            }
        }
    }

    /// The client lost a lite topic. Best effort: one that is still sure of it is told again.
    pub(crate) fn evicted(&self, client: &ClientId, lite_topic: Box<str>) {
        if self.inner().send(client, &Word::Evicted { lite_topic }).is_none() {
            tracing::debug!(event = "eviction_untold", %client, "no stream of the client has room");
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Puts a word into the inbox of that stream of the client which opened last and has room. Returns the number of the
    /// stream; `None` when no stream has room.
    fn send(&self, client: &ClientId, word: &Word) -> Option<u64> {
        let latest_first = self.of_client.get(client)?.iter().rev();
        latest_first.copied().find(|number| {
            let sent = Sent { word: word.clone(), taken: Taken::Nobody };
            self.open.get(number).is_some_and(|end| end.inbox.try_send(sent).is_ok())
        })
    }
}

impl OpenStream {
    /// What comes next from inside. Cancel safe: nothing is lost.
    pub(crate) async fn next(&mut self) -> Word {
        tokio::select! {
            biased;
            () = self.stale.notified() => Word::Stale,
            sent = self.inbox.recv() => sent.expect("the other end lives as long as this one").take(),
        }
    }
}

impl Sent {
    fn take(self) -> Word {
        if let Taken::Tell(taken) = self.taken {
            let _nobody_waits_any_more = taken.send(());
        }
        self.word
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let mut inner = self.streams.inner();
        let Some(end) = inner.open.remove(&self.number) else { return };
        if let Some(numbers) = inner.of_client.get_mut(&end.client) {
            numbers.remove(&self.number);
            if numbers.is_empty() {
                inner.of_client.remove(&end.client);
            }
        }
        inner.questions.hang_up(self.number);
        let changed = inner.producers.leave(self.number, &end.produces);
        drop(inner);
        if changed {
            self.streams.produced_changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use apogee_host::SeededEntropy;
    use tokio::time::timeout;

    use super::*;

    pub(super) fn streams() -> Arc<Streams> {
        Arc::new(Streams::new(Arc::new(SeededEntropy::new(1))))
    }

    pub(super) fn id(name: &str) -> ClientId {
        ClientId::parse(name).unwrap()
    }

    fn send(streams: &Streams, client: &ClientId) -> Option<u64> {
        let asked = Asked { nonce: String::new(), question: Question::Stack };
        streams.inner().send(client, &Word::Asked(asked))
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_stale_is_told_once_though_the_inbox_is_full() {
        let streams = streams();
        let (mut one, mut other) = (streams.open(&id("a")), streams.open(&id("a")));
        let sent: Vec<_> = std::iter::from_fn(|| send(&streams, &id("a"))).collect();
        assert_eq!(sent, [[other.number; WAITING_MAX], [one.number; WAITING_MAX]].concat());
        streams.stale(&[id("a"), id("b")]);
        streams.stale(&[id("a")]);
        for stream in [&mut one, &mut other] {
            assert!(matches!(stream.next().await, Word::Stale));
            for _ in 0..WAITING_MAX {
                assert!(matches!(stream.next().await, Word::Asked(_)));
            }
            assert!(timeout(Duration::from_secs(5), stream.next()).await.is_err());
        }
    }

    #[test]
    fn who_is_gone_is_forgotten_everywhere() {
        let streams = streams();
        let (one, other) = (streams.open(&id("a")), streams.open(&id("a")));
        one.produces(&[Topic::parse("", "t").unwrap()]);
        assert_eq!(streams.of(&id("a")), 2);
        drop(other);
        assert_eq!((streams.of(&id("a")), streams.produced().len()), (1, 1));
        drop(one);
        assert_eq!((streams.of(&id("a")), streams.produced().len(), send(&streams, &id("a"))), (0, 0, None));
        let inner = streams.inner();
        assert!(inner.open.is_empty() && inner.of_client.is_empty());
    }
}
