use std::collections::VecDeque;

use apogee_model::{QueueId, QueueOffset, Timestamp};
use futures::FutureExt as _;

use super::*;

/// What a store answers to one try after the other; the last answer again and again.
#[derive(Clone)]
struct Store {
    script: Arc<Mutex<VecDeque<Option<Answer>>>>,
    tried: Arc<Mutex<usize>>,
}

fn stored() -> Option<Answer> {
    let at = Appended { queue: QueueId(0), offset: QueueOffset(0), stored_at: Timestamp(0), kept: None, half: None };
    Some(Ok(vec![at]))
}

fn failed(error: StoreError) -> Option<Answer> {
    Some(Err(error))
}

impl Store {
    /// `None` never answers.
    fn new(script: impl IntoIterator<Item = Option<Answer>>) -> Self {
        Self { script: Arc::new(Mutex::new(script.into_iter().collect())), tried: Arc::default() }
    }

    fn tries(&self) -> impl Fn() -> BoxFuture<'static, Answer> + Send + Sync + 'static + use<> {
        let store = self.clone();
        move || {
            *store.tried.lock().unwrap() += 1;
            let mut script = store.script.lock().unwrap();
            let answer = if script.len() > 1 { script.pop_front().unwrap() } else { script[0].clone() };
            Box::pin(async move {
                match answer {
                    Some(answer) => answer,
                    None => std::future::pending().await,
                }
            })
        }
    }

    fn tried(&self) -> usize {
        *self.tried.lock().unwrap()
    }
}

fn line() -> Line {
    (TopicId(1), "order-1".into())
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

async fn send(in_order: &InOrder, store: &Store) -> Result<Vec<Appended>, ServiceError> {
    in_order.append(line(), 10, store.tries(), soon()).await
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_holds_the_message_group_back_until_it_is_known() {
    let in_order = InOrder::new(Tasks::new());
    let lost = failed(StoreError::LeaderLost);
    let first = Store::new([lost.clone(), lost, failed(StoreError::Busy { what: "it" }), stored()]);
    assert!(send(&in_order, &first).await.is_err());

    let next = Store::new([stored()]);
    let mut behind = Box::pin(send(&in_order, &next));
    assert!(behind.as_mut().now_or_never().is_none());
    let other = in_order.append((TopicId(1), "order-2".into()), 10, next.tries(), soon());
    assert!(other.now_or_never().is_some(), "another message group does not wait");
    assert_eq!(next.tried(), 1);
    assert!(behind.await.is_ok());
    assert_eq!((first.tried(), next.tried()), (4, 2), "a later refusal says nothing about the first try");
    assert_eq!(in_order.lock().bytes, 0);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_went_away_holds_the_message_group_back() {
    let in_order = InOrder::new(Tasks::new());
    let (first, next) = (Store::new([None, stored()]), Store::new([stored()]));
    assert!(send(&in_order, &first).now_or_never().is_none());
    let begun = Instant::now();
    assert!(matches!(send(&in_order, &next).await, Err(ServiceError::Store(StoreError::NotLeader { .. }))));
    assert_eq!((begun.elapsed(), next.tried()), (Duration::from_secs(5), 0), "nothing was done");
    tokio::time::sleep(SETTLE_MAX).await;
    assert!(send(&in_order, &next).await.is_ok(), "after a time nobody waits for it any more");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_holds_nobody_back() {
    let in_order = InOrder::new(Tasks::new());
    for refusal in [StoreError::NotLeader { leader: None }, StoreError::Busy { what: "it" }] {
        assert!(send(&in_order, &Store::new([failed(refusal)])).await.is_err());
        assert!(in_order.lock().lines.is_empty());
    }
    assert!(send(&in_order, &Store::new([stored()])).now_or_never().is_some_and(|sent| sent.is_ok()));
}

#[tokio::test(start_paused = true)]
async fn what_is_unknown_is_bounded() {
    let in_order = InOrder::new(Tasks::new());
    let lost = Store::new([None]);
    let large = in_order.append(line(), UNKNOWN_BYTES_MAX + 1, lost.tries(), soon());
    assert!(large.now_or_never().is_none());
    let refused = in_order.append((TopicId(1), "order-2".into()), 1, lost.tries(), soon()).await;
    assert!(matches!(refused, Err(ServiceError::TooMany { .. })));
}
