//! The runtime of openraft: tokio, with seeded random numbers and without very short sleeps.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{BoxFuture, Either, FutureExt as _};
use openraft::impls::TokioRuntime;
use openraft::{Instant as _, OptionalSend};
use openraft_rt::AsyncRuntime;
use openraft_rt::deterministic_rng::DeterministicRng;

use super::watch::FairWatch;

type Inner = DeterministicRng<TokioRuntime>;

/// openraft waits a microsecond for more completions of the disk to come together. tokio's timers are whole
/// milliseconds, so that every block would wait for one: sleeps shorter than this let others have their turn first.
const SHORTEST: Duration = Duration::from_micros(100);

/// Turns that others get before a sleep becomes one.
const TURNS: usize = 64;

/// Random numbers come from the seed that a task was started under, see [`super::seeded`].
#[derive(Debug)]
pub struct Runtime(Inner);

impl AsyncRuntime for Runtime {
    type JoinError = <Inner as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <Inner as AsyncRuntime>::JoinHandle<T>;
    type Sleep = Either<BoxFuture<'static, ()>, <Inner as AsyncRuntime>::Sleep>;
    type Instant = <Inner as AsyncRuntime>::Instant;
    type TimeoutError = <Inner as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = <Inner as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = <Inner as AsyncRuntime>::ThreadLocalRng;
    type Mpsc = <Inner as AsyncRuntime>::Mpsc;
    type Watch = FairWatch;
    type Oneshot = <Inner as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <Inner as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        Inner::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        Self::sleep_until(Self::Instant::now() + duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        let soon = deadline < Self::Instant::now() + SHORTEST;
        if soon { Either::Left(nap(deadline).boxed()) } else { Either::Right(Inner::sleep_until(deadline)) }
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Self::Timeout<R, F> {
        Inner::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: Self::Instant, future: F) -> Self::Timeout<R, F> {
        Inner::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        Inner::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        Inner::thread_rng()
    }

    fn new(threads: usize) -> Self {
        Self(Inner::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }

    fn spawn_blocking<F, T>(f: F) -> impl Future<Output = Result<T, io::Error>> + Send
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        Inner::spawn_blocking(f)
    }
}

/// A microsecond has gone by when the others had some turns; where time stands still, it has not.
async fn nap(deadline: <Inner as AsyncRuntime>::Instant) {
    for _ in 0..TURNS {
        Turn::default().await;
        if <Inner as AsyncRuntime>::Instant::now() >= deadline {
            return;
        }
    }
    Inner::sleep_until(deadline).await;
}

/// Lets the other tasks have their turn, once.
#[derive(Debug, Default)]
struct Turn {
    over: bool,
}

impl Future for Turn {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.over, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}
