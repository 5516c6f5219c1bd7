//! The bodies of refused calls, read to their end and thrown away by one task.
//!
//! A body that is dropped before its end resets its stream. h2 remembers few resets; once it forgot one, it takes the
//! frames that were on their way for errors of the peer, and closes the connection after 1,024 of them in its life. Some
//! dozen large sends refused at a time would so take all calls of their connection with them.

use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;

use apogee_host::{OnError, Tasks};
use futures::stream::{FuturesUnordered, StreamExt as _};
use http_body::Body;
use http_body_util::BodyExt as _;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Bodies read at a time, and as many that wait for it. Each is an open stream and what h2 has buffered of it.
const BODIES_MAX: usize = 1024;
/// How long the rest of one may take.
const REST_MAX: Duration = Duration::from_secs(10);

type Rest = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The way to the task.
pub(super) struct Discard {
    inbox: mpsc::Sender<Rest>,
}

impl Discard {
    /// Starts the task.
    pub(super) fn start(tasks: &Tasks) -> Self {
        let (inbox, bodies) = mpsc::channel(BODIES_MAX);
        tasks.spawn("refused-bodies", OnError::StopProcess, run(bodies, tasks.token()));
        Self { inbox }
    }

    /// Reads the rest of `body` for at most 10 s. One for which there is no place is dropped.
    pub(super) fn rest_of<B>(&self, mut body: B)
    where
        B: Body<Data: Send, Error: Send> + Send + Unpin + 'static,
    {
        if body.is_end_stream() {
            return;
        }
        let Ok(place) = self.inbox.try_reserve() else { return };
        place.send(Box::pin(async move {
            let rest = async { while let Some(Ok(_frame)) = body.frame().await {} };
            let _dropped_when_it_takes_longer = timeout(REST_MAX, rest).await;
        }));
    }
}

async fn run(mut inbox: mpsc::Receiver<Rest>, stop: CancellationToken) -> Result<(), Infallible> {
    let mut bodies = FuturesUnordered::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            Some(()) = bodies.next() => {}
            Some(body) = inbox.recv(), if bodies.len() < BODIES_MAX => bodies.push(body),
            else => return Ok(()),
        }
    }
}
