use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use apogee_host::RealClock;
use apogee_host::health::Health;
use tokio::task::LocalSet;

use super::*;
use crate::fake::FakeApi;

const PATH: &str = "/apis/coordination.k8s.io/v1/namespaces/queues/leases/operators";

fn candidate(api: &FakeApi, me: &str) -> Candidate {
    let meter = opentelemetry::global::meter("test");
    Candidate::new(CandidateParts {
        client: api.client(),
        namespace: "queues".to_owned(),
        name: "operators".to_owned(),
        me: me.to_owned(),
        troubles: Troubles::new(Health::new(&[])),
        leading: crate::report::leading(&meter),
        clock: Arc::new(RealClock),
    })
}

/// Who is at work, in a row; a second one at the same time is a failure.
#[derive(Clone, Default)]
struct Desk {
    at_work: Rc<Cell<bool>>,
    turns: Rc<RefCell<Vec<String>>>,
}

struct Turn(Rc<Cell<bool>>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

impl Desk {
    async fn work(self, me: &str) {
        assert!(!self.at_work.replace(true), "{me} is not alone");
        let _until_it_is_dropped = Turn(Rc::clone(&self.at_work));
        self.turns.borrow_mut().push(me.to_owned());
        std::future::pending().await
    }

    /// Lets a candidate run beside the test.
    fn enter(&self, api: &FakeApi, me: &'static str) -> CancellationToken {
        let (stop, desk) = (CancellationToken::new(), self.clone());
        let run = candidate(api, me).run(stop.clone(), move || desk.clone().work(me));
        tokio::task::spawn_local(run);
        stop
    }

    /// How long it takes until there were so many turns.
    async fn turns(&self, many: usize) -> Duration {
        let began = Instant::now();
        while self.turns.borrow().len() < many {
            assert!(began.elapsed() < LEASE * 4, "{:?}", self.turns.borrow());
            sleep(Duration::from_millis(50)).await;
        }
        began.elapsed()
    }
}

async fn locally(test: impl Future<Output = ()>) {
    LocalSet::new().run_until(test).await;
}

#[tokio::test(start_paused = true)]
async fn who_stops_lets_another_one_go_on() {
    locally(async {
        let (api, desk) = (FakeApi::default(), Desk::default());
        let first = desk.enter(&api, "a");
        desk.turns(1).await;
        desk.enter(&api, "b");
        sleep(LEASE * 10).await;
        assert_eq!(*desk.turns.borrow(), ["a"], "it is renewed");
        first.cancel();
        let waited = desk.turns(2).await;
        assert!(waited <= LOOK_EVERY * 2, "{waited:?}");
        assert_eq!(*desk.turns.borrow(), ["a", "b"]);
        let spec = api.get::<Lease>(PATH).and_then(|lease| lease.spec).expect("a lease");
        assert_eq!((spec.holder_identity.as_deref(), spec.lease_transitions), (Some("b"), Some(1)));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_went_away_is_waited_for() {
    locally(async {
        let (api, desk) = (FakeApi::default(), Desk::default());
        // Its clock is wrong, and it never comes back.
        let mut gone = candidate(&api, "gone");
        gone.attempt().await.expect("it answers").expect("it is free");
        drop(gone);
        desk.enter(&api, "b");
        let waited = desk.turns(1).await;
        assert!(waited >= LEASE && waited <= LEASE + LOOK_EVERY * 2, "{waited:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_cannot_renew_stops_before_another_one_begins() {
    locally(async {
        let (api, desk) = (FakeApi::default(), Desk::default());
        let other = api.beside();
        desk.enter(&api, "a");
        desk.turns(1).await;
        desk.enter(&other, "b");
        sleep(LEASE).await;
        api.refuse(Some((503, |_, _| true)));
        // The desk sees to it that they are never two.
        let waited = desk.turns(2).await;
        assert!(waited <= LEASE + LOOK_EVERY * 2, "{waited:?}");
        // Whoever is back finds that it is too late.
        api.refuse(None);
        sleep(LEASE * 3).await;
        assert_eq!(*desk.turns.borrow(), ["a", "b"]);
    })
    .await;
}

#[test]
fn a_lease_is_free_when_nobody_holds_it_or_it_did_not_change() {
    let lease = |holder: Option<&str>, seconds| LeaseSpec {
        holder_identity: holder.map(str::to_owned),
        lease_duration_seconds: seconds,
        ..LeaseSpec::default()
    };
    let after = Duration::from_secs;
    assert_eq!(next(&lease(None, None), "a", after(0)), Move::Take);
    assert_eq!(next(&lease(Some(""), Some(15)), "a", after(0)), Move::Take);
    assert_eq!(next(&lease(Some("a"), Some(15)), "a", after(0)), Move::Renew);
    assert_eq!(next(&lease(Some("b"), Some(15)), "a", after(14)), Move::Wait);
    assert_eq!(next(&lease(Some("b"), Some(15)), "a", after(15)), Move::Take);
    assert_eq!(next(&lease(Some("b"), Some(30)), "a", after(20)), Move::Wait);
}
