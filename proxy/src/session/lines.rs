//! Open telemetry streams, and what is asked through them.
//!
//! A question carries a nonce that its answer repeats, so that several at once do not mix. Only the client that was asked
//! can answer, by any of its streams.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use apogee_host::Entropy;
use apogee_model::store::FetchedMessage;
use apogee_model::{ClientId, QueueId, Topic};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::timeout;

/// Questions that wait for their answers.
const WAITING_MAX: usize = 256;
/// Questions that wait until their stream takes them.
const QUEUED_MAX: usize = 16;

/// What a client can be asked.
#[derive(Clone, Debug)]
pub(crate) enum Question {
    /// What its threads do.
    Stack,
    /// To work on this message.
    Verify(Arc<Candidate>),
}

/// A stored message that a consumer is to try.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) topic: Topic,
    pub(crate) queue: QueueId,
    pub(crate) found: FetchedMessage,
}

/// Which question an answer is meant for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum QuestionKind {
    Stack,
    Verify,
}

/// A question on its way.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) nonce: String,
    pub(crate) question: Question,
}

/// What a client answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// A code of the v2 API.
    pub(crate) code: i32,
    pub(crate) words: String,
    pub(crate) stack: String,
}

/// Why there is no answer.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// No stream of the client is open here.
    NoStream,
    /// Too many questions wait.
    Busy,
    /// Nothing came in time.
    Late { waited: Duration },
    /// The stream ended.
    HungUp,
}

/// What comes to a stream from inside.
#[derive(Debug)]
pub(crate) enum Word {
    /// What was agreed with the client may not hold any more.
    Stale,
    Asked(Asked),
}

/// All open streams of a proxy. One small lock, never held across a wait.
pub(crate) struct Lines {
    entropy: Arc<dyn Entropy>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    open: BTreeMap<ClientId, Vec<End>>,
    waiting: BTreeMap<String, Waiting>,
    opened: u64,
}

/// Our end of a stream.
struct End {
    number: u64,
    stale: Arc<Notify>,
    asked: mpsc::Sender<Asked>,
}

struct Waiting {
    client: ClientId,
    kind: QuestionKind,
    /// Number of the stream that took the question.
    by: u64,
    answer: oneshot::Sender<Said>,
}

/// The other end, of the task that writes the stream; closes on drop.
pub(crate) struct Line {
    lines: Arc<Lines>,
    client: ClientId,
    number: u64,
    stale: Arc<Notify>,
    asked: mpsc::Receiver<Asked>,
}

/// Takes a question back that nobody waits for.
struct Forget<'a> {
    lines: &'a Lines,
    nonce: &'a str,
}

impl Question {
    pub(crate) fn kind(&self) -> QuestionKind {
        match self {
            Self::Stack => QuestionKind::Stack,
            Self::Verify(_) => QuestionKind::Verify,
        }
    }
}

impl Lines {
    pub(crate) fn new(entropy: Arc<dyn Entropy>) -> Self {
        Self { entropy, inner: Mutex::default() }
    }

    /// A stream of the client begins.
    pub(crate) fn open(self: &Arc<Self>, client: &ClientId) -> Line {
        let (sender, asked) = mpsc::channel(QUEUED_MAX);
        let stale = Arc::new(Notify::new());
        let mut inner = self.inner();
        inner.opened += 1;
        let number = inner.opened;
        let end = End { number, stale: Arc::clone(&stale), asked: sender };
        inner.open.entry(client.clone()).or_default().push(end);
        Line { lines: Arc::clone(self), client: client.clone(), number, stale, asked }
    }

    /// How many streams of the client are open.
    pub(crate) fn of(&self, client: &ClientId) -> usize {
        self.inner().open.get(client).map_or(0, Vec::len)
    }

    /// Lets the streams of these clients look again at what was agreed.
    pub(crate) fn stale(&self, clients: &[ClientId]) {
        let inner = self.inner();
        for end in clients.iter().filter_map(|client| inner.open.get(client)).flatten() {
            end.stale.notify_one();
        }
    }

    /// Asks a client, by the stream it opened last.
    pub(crate) async fn ask(&self, client: &ClientId, question: Question, wait: Duration) -> Result<Said, Unanswered> {
        let nonce = format!("{:016x}{:016x}", self.entropy.next_u64(), self.entropy.next_u64());
        let answer = self.send(client, question, &nonce)?;
        let _forget = Forget { lines: self, nonce: &nonce };
        match timeout(wait, answer).await {
            Ok(Ok(said)) => Ok(said),
            Ok(Err(_)) => Err(Unanswered::HungUp),
            Err(_) => Err(Unanswered::Late { waited: wait }),
        }
    }

    fn send(&self, client: &ClientId, question: Question, nonce: &str) -> Result<oneshot::Receiver<Said>, Unanswered> {
        let mut inner = self.inner();
        let inner = &mut *inner;
        let ends = inner.open.get(client).ok_or(Unanswered::NoStream)?;
        if inner.waiting.len() >= WAITING_MAX {
            return Err(Unanswered::Busy);
        }
        let kind = question.kind();
        let mut asked = Asked { nonce: nonce.to_owned(), question };
        for end in ends.iter().rev() {
            asked = match end.asked.try_send(asked) {
                Ok(()) => {
                    let (sender, answer) = oneshot::channel();
                    let waiting = Waiting { client: client.clone(), kind, by: end.number, answer: sender };
                    inner.waiting.insert(nonce.to_owned(), waiting);
                    return Ok(answer);
                }
                Err(full) => full.into_inner(),
            };
        }
        Err(Unanswered::Busy)
    }

    /// A client answers. False when it was not asked that, or too late.
    pub(crate) fn answered(&self, client: &ClientId, nonce: &str, kind: QuestionKind, said: Said) -> bool {
        let mut inner = self.inner();
        let asked = inner.waiting.get(nonce).is_some_and(|asked| asked.client == *client && asked.kind == kind);
        let waiting = if asked { inner.waiting.remove(nonce) } else { None };
        waiting.is_some_and(|waiting| waiting.answer.send(said).is_ok())
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    /// What comes next from inside. Cancel safe: nothing is lost.
    pub(crate) async fn next(&mut self) -> Word {
        tokio::select! {
            () = self.stale.notified() => Word::Stale,
            asked = self.asked.recv() => Word::Asked(asked.expect("the other end lives as long as this one")),
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let mut inner = self.lines.inner();
        if let Some(ends) = inner.open.get_mut(&self.client) {
            ends.retain(|end| end.number != self.number);
            if ends.is_empty() {
                inner.open.remove(&self.client);
            }
        }
        inner.waiting.retain(|_, waiting| waiting.by != self.number); // whoever waits hears it at once
    }
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.lines.inner().waiting.remove(self.nonce);
    }
}

#[cfg(test)]
mod tests {
    use apogee_host::SeededEntropy;

    use super::*;

    const WAIT: Duration = Duration::from_secs(5);

    fn id(name: &str) -> ClientId {
        ClientId::parse(name).unwrap()
    }

    fn lines() -> Arc<Lines> {
        Arc::new(Lines::new(Arc::new(SeededEntropy::new(1))))
    }

    fn said(words: &str) -> Said {
        Said { code: 20_000, words: words.to_owned(), stack: String::new() }
    }

    async fn nonce(line: &mut Line) -> String {
        match line.next().await {
            Word::Asked(asked) => asked.nonce,
            Word::Stale => panic!("a question"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn answers_find_their_questions() {
        let lines = lines();
        let (mut one, _other) = (lines.open(&id("a")), lines.open(&id("b")));
        let me = id("a");
        let ask = || lines.ask(&me, Question::Stack, WAIT);
        let answering = async {
            let (first, second) = (nonce(&mut one).await, nonce(&mut one).await);
            assert_ne!(first, second);
            assert!(!lines.answered(&id("b"), &first, QuestionKind::Stack, said("not its own")));
            assert!(!lines.answered(&id("a"), &first, QuestionKind::Verify, said("something else")));
            assert!(!lines.answered(&id("a"), "never asked", QuestionKind::Stack, said("nothing")));
            assert!(lines.answered(&id("a"), &second, QuestionKind::Stack, said("second")));
            assert!(lines.answered(&id("a"), &first, QuestionKind::Stack, said("first")));
            assert!(!lines.answered(&id("a"), &first, QuestionKind::Stack, said("twice")));
        };
        let (first, second, ()) = tokio::join!(ask(), ask(), answering);
        assert_eq!((first, second), (Ok(said("first")), Ok(said("second"))));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let lines = lines();
        assert_eq!(lines.ask(&id("a"), Question::Stack, WAIT).await, Err(Unanswered::NoStream));
        let line = lines.open(&id("a"));
        assert_eq!(lines.ask(&id("a"), Question::Stack, WAIT).await, Err(Unanswered::Late { waited: WAIT }));
        assert!(lines.inner().waiting.is_empty());
        let me = id("a");
        let (unanswered, ()) = tokio::join!(lines.ask(&me, Question::Stack, WAIT), async { drop(line) });
        assert_eq!(unanswered, Err(Unanswered::HungUp));
        assert!(lines.inner().open.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_takes_nothing_is_full_some_time() {
        let lines = lines();
        let (_first, _second) = (lines.open(&id("a")), lines.open(&id("a")));
        assert_eq!(lines.of(&id("a")), 2);
        let sent = (0..2 * QUEUED_MAX).map(|nth| lines.send(&id("a"), Question::Stack, &nth.to_string()));
        let sent: Vec<_> = sent.collect();
        assert!(sent.iter().all(Result::is_ok));
        assert_eq!(lines.ask(&id("a"), Question::Stack, WAIT).await, Err(Unanswered::Busy));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_stale_is_told_once() {
        let lines = lines();
        let mut line = lines.open(&id("a"));
        lines.stale(&[id("a"), id("b")]);
        lines.stale(&[id("a")]);
        assert!(matches!(line.next().await, Word::Stale));
        assert!(timeout(WAIT, line.next()).await.is_err());
    }
}
