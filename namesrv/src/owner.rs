//! The one task that changes the state: takes all that waits, makes it durable, publishes, answers.

use std::sync::Arc;

use apogee_model::{Cluster, MetadataError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::journal::{Journal, JournalError};
use crate::state::{Change, Command, Refusal, State};

/// Requests that may wait for the owner, and that become durable with one sync.
pub(crate) const INBOX: usize = 256;

/// A command and who waits for its answer.
pub(crate) struct Request {
    pub(crate) command: Command,
    pub(crate) reply: oneshot::Sender<Answer>,
}

pub(crate) type Answer = Result<Change, MetadataError>;

pub(crate) struct Owner {
    pub(crate) state: State,
    pub(crate) journal: Journal,
    pub(crate) inbox: mpsc::Receiver<Request>,
    pub(crate) published: watch::Sender<Arc<Cluster>>,
}

impl Owner {
    /// Serves until `stop`, then whatever waits by then, and ends.
    ///
    /// # Errors
    /// [`JournalError`] when a change may or may not be durable. It was neither published nor answered; a start from
    /// disk decides.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), JournalError> {
        let mut waiting = Vec::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled(), if !self.inbox.is_closed() => self.inbox.close(),
                taken = self.inbox.recv_many(&mut waiting, INBOX) => match taken {
                    0 => return Ok(()),
                    _ => self.serve(std::mem::take(&mut waiting)).await?,
                },
            }
        }
    }

    /// Refusals wait for the sync too: they may rest on a change of the same batch.
    async fn serve(&mut self, requests: Vec<Request>) -> Result<(), JournalError> {
        let after = self.state.version();
        let mut commands = Vec::new();
        let mut answers = Vec::with_capacity(requests.len());
        for Request { command, reply } in requests {
            let answer = self.decide_and_apply(&command);
            if matches!(&answer, Ok(change) if *change != Change::Nothing) {
                commands.push(command);
            }
            answers.push((reply, answer));
        }
        if !commands.is_empty() {
            self.journal.append(after, commands).await?;
            self.publish();
        }
        for (reply, answer) in answers {
            let _caller_gave_up = reply.send(answer);
        }
        Ok(())
    }

    fn decide_and_apply(&mut self, command: &Command) -> Answer {
        match self.state.decide(command) {
            Ok(change) => {
                self.state.apply(&change);
                Ok(change)
            }
            Err(Refusal::Metadata(error)) => Err(error),
            Err(refusal @ (Refusal::BornAlready | Refusal::NotBorn)) => {
                unreachable!("the birth comes before the first request: {refusal}")
            }
        }
    }

    fn publish(&self) {
        let cluster = self.state.cluster().expect("the birth comes before the first request");
        self.published.send_replace(Arc::clone(cluster));
    }
}
