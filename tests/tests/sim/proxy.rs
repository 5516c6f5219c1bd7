//! What a proxy does for its clients: finds the leader by hints, and asks again where that is safe.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use apogee_engine::{Engine, Role};
use apogee_model::store::{
    Append, Appended, CheckBack, Checked, CommitOffset, DeliveryKey, EndTransaction, Fetch, Fetched, GroupQueue,
    GroupStatus, LiteSubscribed, LiteSubscription, OffsetCommitted, Pop, Popped, QueueReset, Recall, Recalled, Reset,
    Settled, Settlement, StoreError, TransactionEnded,
};
use apogee_model::{GroupId, QueueOffset, ReplicaId};
use apogee_tests::clients::{Dice, Door, NoAnswer, payload};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::lanes::{Desk, Late, Reply, ask};

/// How long a client gives the system for a call.
pub(crate) const CALL_MAX: Duration = Duration::from_secs(3);
/// How long one replica may take.
const TRY_MAX: Duration = Duration::from_secs(1);
/// Longest pause between two tries, in milliseconds.
const PAUSE_MAX: u64 = 30;

/// How long somebody listens to what producers are asked,
const LISTEN: Duration = Duration::from_millis(300);
/// and to how much.
const CHECKS_MAX: usize = 16;

/// What this engine wants to know from producers in the next moment.
async fn checks_of(engine: &Engine) -> Vec<CheckBack> {
    let mut checks = engine.checks([payload::topic().id].into());
    let (mut all, end) = (Vec::new(), Instant::now() + LISTEN);
    while all.len() < CHECKS_MAX
        && let Ok(check) = timeout_at(end, checks.next()).await
    {
        all.push(check);
    }
    all
}

/// See the module.
pub(crate) struct Proxy {
    desk: Desk,
    dice: Dice,
    replicas: u64,
    /// Who is believed to lead.
    leader: Cell<ReplicaId>,
    /// Notes on their way.
    notes: RefCell<JoinSet<()>>,
}

/// When a call is asked again.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Again {
    /// When it was certainly not carried out.
    IfRefused,
    /// Until the deadline: twice is as good as once.
    Always,
}

impl Proxy {
    pub(crate) fn new(desk: Desk, dice: Dice, replicas: u64) -> Proxy {
        let leader = Cell::new(ReplicaId(1 + dice.below(replicas)));
        Proxy { desk, dice, replicas, leader, notes: RefCell::default() }
    }

    async fn insist<T, F>(&self, again: Again, late: Late, question: F) -> Result<T, NoAnswer>
    where
        T: Send + 'static,
        F: Fn(Engine) -> BoxFuture<'static, Result<T, StoreError>> + Clone + Send + 'static,
    {
        let deadline = Instant::now() + CALL_MAX;
        let mut gave_up = NoAnswer::Refused;
        while Instant::now() < deadline {
            let asked = self.leader.get();
            let one_try = timeout(TRY_MAX, ask(&self.desk, asked, late, Box::new(question.clone())));
            match timeout_at(deadline, one_try).await.flatten().unwrap_or(Reply::Lost) {
                Reply::Answered(Ok(answer)) => return Ok(answer),
                Reply::Answered(Err(StoreError::NotLeader { leader })) => self.look_at(leader, asked),
                Reply::Answered(Err(error)) if NoAnswer::from(error.clone()) == NoAnswer::Refused => {
                    return Err(gave_up);
                }
                Reply::NotSent => self.look_at(None, asked),
                Reply::Answered(Err(_)) | Reply::Lost => {
                    gave_up = NoAnswer::Unknown;
                    self.look_at(None, asked);
                    if again == Again::IfRefused {
                        return Err(gave_up);
                    }
                }
            }
            sleep(self.dice.millis(PAUSE_MAX)).await;
        }
        Err(gave_up)
    }

    /// Follows the hint of a replica that does not lead, or tries the next one, unless somebody else found out more.
    fn look_at(&self, hint: Option<ReplicaId>, asked: ReplicaId) {
        if self.leader.get() == asked {
            let next = ReplicaId(asked.0 % self.replicas + 1);
            self.leader.set(hint.filter(|hint| *hint != asked).unwrap_or(next));
        }
    }
}

impl Door for Proxy {
    async fn append(&self, messages: Vec<Append>) -> Result<Vec<Appended>, NoAnswer> {
        let question = move |engine: Engine| {
            let messages = messages.clone();
            async move { engine.append(messages).await }.boxed()
        };
        self.insist(Again::Always, Late::Counts, question).await
    }

    async fn lite_subscribe(&self, subscription: LiteSubscription) -> Result<LiteSubscribed, NoAnswer> {
        let question = move |engine: Engine| {
            let subscription = subscription.clone();
            async move { engine.lite_subscribe(subscription).await }.boxed()
        };
        self.insist(Again::Always, Late::IsDropped, question).await
    }

    async fn pop(&self, pop: Pop) -> Result<Popped, NoAnswer> {
        let question = move |engine: Engine| {
            let pop = pop.clone();
            async move { engine.pop(pop).await }.boxed()
        };
        self.insist(Again::IfRefused, Late::IsDropped, question).await
    }

    async fn settle(&self, key: DeliveryKey, what: Settlement) -> Result<Settled, NoAnswer> {
        let again = match what {
            Settlement::Ack | Settlement::DeadLetter(_) => Again::Always,
            // A second one would start the window anew.
            Settlement::Change(_) | Settlement::Suspend(_) | Settlement::Rest { .. } => Again::IfRefused,
        };
        let question = move |engine: Engine| {
            let what = what.clone();
            async move { engine.settle(key, what).await }.boxed()
        };
        self.insist(again, Late::IsDropped, question).await
    }

    fn release(&self, deliveries: Vec<DeliveryKey>) {
        let (desk, leader) = (self.desk.clone(), self.leader.get());
        let question = move |engine: Engine| {
            async move {
                engine.release(deliveries);
                Ok(())
            }
            .boxed()
        };
        let mut notes = self.notes.borrow_mut();
        while notes.try_join_next().is_some() {}
        notes.spawn_local(async move {
            let _best_effort = timeout(TRY_MAX, ask(&desk, leader, Late::IsDropped, Box::new(question))).await;
        });
    }

    async fn recall(&self, recall: Recall) -> Result<Recalled, NoAnswer> {
        let question = move |engine: Engine| async move { engine.recall(recall).await }.boxed();
        self.insist(Again::Always, Late::Counts, question).await
    }

    async fn end_transaction(&self, end: EndTransaction) -> Result<TransactionEnded, NoAnswer> {
        let question = move |engine: Engine| async move { engine.end_transaction(end).await }.boxed();
        self.insist(Again::Always, Late::Counts, question).await
    }

    async fn checks(&self) -> Result<Vec<CheckBack>, NoAnswer> {
        let question = |engine: Engine| {
            async move {
                let role = *engine.role().borrow();
                match role {
                    Role::Leader { .. } => Ok(checks_of(&engine).await),
                    Role::Follower { leader } => Err(StoreError::NotLeader { leader }),
                }
            }
            .boxed()
        };
        self.insist(Again::IfRefused, Late::IsDropped, question).await
    }

    async fn checked(&self, checked: Checked) -> Result<(), NoAnswer> {
        let question = move |engine: Engine| {
            async move {
                engine.checked(checked);
                Ok(())
            }
            .boxed()
        };
        self.insist(Again::IfRefused, Late::IsDropped, question).await
    }

    async fn reset(&self, reset: Reset) -> Result<Vec<QueueReset>, NoAnswer> {
        let question = move |engine: Engine| {
            let reset = reset.clone();
            async move { engine.reset_offset(reset).await }.boxed()
        };
        // A second one would undo what was consumed since the first.
        self.insist(Again::IfRefused, Late::IsDropped, question).await
    }

    async fn fetch(&self, fetch: Fetch) -> Result<Fetched, NoAnswer> {
        let question = move |engine: Engine| {
            let fetch = fetch.clone();
            async move { engine.fetch(fetch).await }.boxed()
        };
        self.insist(Again::Always, Late::IsDropped, question).await
    }

    async fn commit_offset(&self, commit: CommitOffset) -> Result<OffsetCommitted, NoAnswer> {
        let question = move |engine: Engine| {
            let commit = commit.clone();
            async move { engine.commit_offset(commit).await }.boxed()
        };
        // A second one could come behind the next.
        self.insist(Again::IfRefused, Late::IsDropped, question).await
    }

    async fn committed_offset(&self, of: GroupQueue) -> Result<Option<QueueOffset>, NoAnswer> {
        let question = move |engine: Engine| async move { engine.committed_offset(of).await }.boxed();
        self.insist(Again::Always, Late::IsDropped, question).await
    }

    async fn group_status(&self, group: GroupId) -> Result<Vec<GroupStatus>, NoAnswer> {
        let question = move |engine: Engine| async move { engine.group_status(group).await }.boxed();
        self.insist(Again::Always, Late::IsDropped, question).await
    }
}
