//! What clients are asked through their streams.
//!
//! A question carries a nonce that its answer repeats, so that several at once do not mix. Only the client that was asked
//! can answer, by any of its streams.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use apogee_model::store::FetchedMessage;
use apogee_model::{ClientId, QueueId, Topic};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{Inner, Streams, Word};

/// Questions that wait for their answers.
const WAITING_MAX: usize = 256;

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
#[derive(Clone, Debug)]
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

/// All questions that were asked and not answered, by their nonces.
#[derive(Default)]
pub(super) struct Questions {
    waiting: BTreeMap<String, Waiting>,
}

struct Waiting {
    client: ClientId,
    kind: QuestionKind,
    /// Number of the stream that took the question.
    by: u64,
    answer: oneshot::Sender<Said>,
}

/// Takes a question back that nobody waits for.
struct Forget<'a> {
    streams: &'a Streams,
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

impl Streams {
    /// Asks a client, by the stream it opened last.
    pub(crate) async fn ask(&self, client: &ClientId, question: Question, wait: Duration) -> Result<Said, Unanswered> {
        let nonce = format!("{:016x}{:016x}", self.entropy.next_u64(), self.entropy.next_u64());
        let answer = self.inner().ask(client, question, &nonce)?;
        let _forget = Forget { streams: self, nonce: &nonce };
        match timeout(wait, answer).await {
            Ok(Ok(said)) => Ok(said),
            Ok(Err(_)) => Err(Unanswered::HungUp),
            Err(_) => Err(Unanswered::Late { waited: wait }),
        }
    }

    /// A client answers. False when it was not asked that, or too late.
    pub(crate) fn answered(&self, client: &ClientId, nonce: &str, kind: QuestionKind, said: Said) -> bool {
        let waiting = self.inner().questions.take(client, nonce, kind);
        waiting.is_some_and(|waiting| waiting.answer.send(said).is_ok())
    }
}

impl Inner {
    fn ask(
        &mut self,
        client: &ClientId,
        question: Question,
        nonce: &str,
    ) -> Result<oneshot::Receiver<Said>, Unanswered> {
        if !self.of_client.contains_key(client) {
            return Err(Unanswered::NoStream);
        }
        if self.questions.waiting.len() >= WAITING_MAX {
            return Err(Unanswered::Busy);
        }
        let kind = question.kind();
        let by =
            self.send(client, &Word::Asked(Asked { nonce: nonce.to_owned(), question })).ok_or(Unanswered::Busy)?;
        let (sender, answer) = oneshot::channel();
        self.questions.waiting.insert(nonce.to_owned(), Waiting { client: client.clone(), kind, by, answer: sender });
        Ok(answer)
    }
}

impl Questions {
    fn take(&mut self, client: &ClientId, nonce: &str, kind: QuestionKind) -> Option<Waiting> {
        let asked = self.waiting.get(nonce).is_some_and(|asked| asked.client == *client && asked.kind == kind);
        if asked { self.waiting.remove(nonce) } else { None }
    }

    /// The stream has ended; whoever waits for an answer to what it took hears so at once.
    pub(super) fn hang_up(&mut self, number: u64) {
        self.waiting.retain(|_, waiting| waiting.by != number);
    }
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.streams.inner().questions.waiting.remove(self.nonce);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{id, streams};
    use super::super::{OpenStream, WAITING_MAX as QUEUED_MAX};
    use super::*;

    const WAIT: Duration = Duration::from_secs(5);

    fn said(words: &str) -> Said {
        Said { code: 20_000, words: words.to_owned(), stack: String::new() }
    }

    async fn nonce(stream: &mut OpenStream) -> String {
        match stream.next().await {
            Word::Asked(asked) => asked.nonce,
            other => panic!("{other:?} is no question"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn answers_find_their_questions() {
        let streams = streams();
        let (mut one, _other) = (streams.open(&id("a")), streams.open(&id("b")));
        let me = id("a");
        let ask = || streams.ask(&me, Question::Stack, WAIT);
        let answering = async {
            let (first, second) = (nonce(&mut one).await, nonce(&mut one).await);
            assert_ne!(first, second);
            assert!(!streams.answered(&id("b"), &first, QuestionKind::Stack, said("not its own")));
            assert!(!streams.answered(&id("a"), &first, QuestionKind::Verify, said("something else")));
            assert!(!streams.answered(&id("a"), "never asked", QuestionKind::Stack, said("nothing")));
            assert!(streams.answered(&id("a"), &second, QuestionKind::Stack, said("second")));
            assert!(streams.answered(&id("a"), &first, QuestionKind::Stack, said("first")));
            assert!(!streams.answered(&id("a"), &first, QuestionKind::Stack, said("twice")));
        };
        let (first, second, ()) = tokio::join!(ask(), ask(), answering);
        assert_eq!((first, second), (Ok(said("first")), Ok(said("second"))));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let streams = streams();
        assert_eq!(streams.ask(&id("a"), Question::Stack, WAIT).await, Err(Unanswered::NoStream));
        let stream = streams.open(&id("a"));
        assert_eq!(streams.ask(&id("a"), Question::Stack, WAIT).await, Err(Unanswered::Late { waited: WAIT }));
        assert!(streams.inner().questions.waiting.is_empty());
        let me = id("a");
        let (unanswered, ()) = tokio::join!(streams.ask(&me, Question::Stack, WAIT), async { drop(stream) });
        assert_eq!(unanswered, Err(Unanswered::HungUp));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_takes_nothing_is_full_some_time() {
        let streams = streams();
        let (_first, _second) = (streams.open(&id("a")), streams.open(&id("a")));
        let sent = (0..2 * QUEUED_MAX).map(|nth| streams.inner().ask(&id("a"), Question::Stack, &nth.to_string()));
        let sent: Vec<_> = sent.collect();
        assert!(sent.iter().all(Result::is_ok));
        assert_eq!(streams.ask(&id("a"), Question::Stack, WAIT).await, Err(Unanswered::Busy));
    }
}
