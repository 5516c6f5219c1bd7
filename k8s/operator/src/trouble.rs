//! What the API server does not let the operator do, or does not answer: in the log once, and in the health while it lasts.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use apogee_host::health::{Check, Health};
use kube::runtime::watcher;
use tokio::time::{Instant, sleep};

/// The name of the check.
pub(crate) const CHECK: &str = "kubernetes";
/// What nobody told for so long is over: everything is tried more often than that.
const OVER: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Different troubles that are remembered at a time.
const MANY: usize = 8;

/// What was asked of the API server: a verb and a resource as its roles know them, and where.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Attempt<'a> {
    pub(crate) verb: &'static str,
    pub(crate) resource: &'a str,
    /// `None`: in all of them.
    pub(crate) namespace: Option<&'a str>,
}

impl Attempt<'_> {
    /// Why it did not work, in a sentence that says what to change.
    pub(crate) fn explain(&self, error: &kube::Error) -> String {
        match error {
            kube::Error::Api(status) if status.code == 403 => {
                format!("the operator may not {self}: its Role does not allow that ({})", status.message)
            }
            kube::Error::Api(status) if status.code == 401 => {
                format!("the operator may not {self}: the API server does not know it ({})", status.message)
            }
            // A namespaced resource that is not there has another answer unless its kind is unknown.
            kube::Error::Api(status) if status.code == 404 && matches!(self.verb, "list" | "watch") => {
                format!("there is no {} in this Kubernetes: apply the definitions in crds/ of the chart", self.resource)
            }
            error => format!("the operator cannot {self}: {}", with_causes(error)),
        }
    }

    pub(crate) fn unanswered(&self, waited: Duration) -> String {
        format!("the operator cannot {self}: no answer within {waited:?}")
    }
}

impl std::fmt::Display for Attempt<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Attempt { verb, resource, namespace } = self;
        match namespace {
            Some(namespace) => write!(f, "{verb} {resource} in namespace {namespace}"),
            None => write!(f, "{verb} {resource} in all namespaces"),
        }
    }
}

/// Why objects are not seen.
pub(crate) fn unseen(resource: &str, namespace: Option<&str>, error: &watcher::Error) -> String {
    let attempt = |verb| Attempt { verb, resource, namespace };
    match error {
        watcher::Error::InitialListFailed(error) => attempt("list").explain(error),
        watcher::Error::WatchStartFailed(error) | watcher::Error::WatchFailed(error) => attempt("watch").explain(error),
        watcher::Error::WatchError(status) => attempt("watch").explain(&kube::Error::Api(status.clone())),
        watcher::Error::NoResourceVersion => format!("the operator cannot {}: {error}", attempt("watch")),
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        let told = deeper.to_string();
        if !text.contains(&told) {
            let _text_is_never_full = write!(text, ": {told}");
        }
        cause = deeper.source();
    }
    text
}

/// All troubles of this process with the API server. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Troubles {
    health: Health,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// The API server answered what it was asked once.
    answered: bool,
    told: BTreeMap<String, Instant>,
}

impl Troubles {
    /// No trouble, and no answer either.
    pub(crate) fn new(health: Health) -> Troubles {
        let troubles = Troubles { health, state: Arc::default() };
        troubles.show();
        troubles
    }

    /// The API server did as it was asked.
    pub(crate) fn answered(&self) {
        let first = !std::mem::replace(&mut self.state().answered, true);
        if first {
            self.show();
        }
    }

    pub(crate) fn tell(&self, sentence: String) {
        let mut state = self.state();
        let new = state.told.insert(sentence.clone(), Instant::now()).is_none();
        if state.told.len() > MANY {
            let oldest = state.told.iter().min_by_key(|(_, told)| **told).map(|(sentence, _)| sentence.clone());
            oldest.map(|oldest| state.told.remove(&oldest));
        }
        drop(state);
        if new {
            tracing::warn!(event = "kubernetes_trouble", "{sentence}");
            self.show();
        }
    }

    /// Forgets what is over; never ends.
    pub(crate) async fn forget(&self) {
        loop {
            sleep(LOOK_EVERY).await;
            let mut state = self.state();
            let before = state.told.len();
            state.told.retain(|_, told| told.elapsed() < OVER);
            let over = before > state.told.len();
            let all = state.told.is_empty();
            drop(state);
            if over {
                self.show();
                if all {
                    tracing::info!(event = "kubernetes_trouble_over", "the API server does as it is asked again");
                }
            }
        }
    }

    fn show(&self) {
        let state = self.state();
        let check = match (state.told.is_empty(), state.answered) {
            (true, true) => Check::ok(),
            (true, false) => Check::fail("the API server has not answered yet"),
            (false, _) => Check::fail(state.told.keys().map(String::as_str).collect::<Vec<_>>().join("; ")),
        };
        self.health.set(CHECK, check);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn refused(code: u16) -> kube::Error {
        kube::Error::Api(Box::new(Status::failure("topics is forbidden", "Forbidden").with_code(code)))
    }

    #[test]
    fn a_missing_permission_is_named() {
        let error = watcher::Error::InitialListFailed(refused(403));
        let told = unseen("topics.apogeemq.io", Some("queues"), &error);
        assert!(
            told.starts_with("the operator may not list topics.apogeemq.io in namespace queues: its Role"),
            "{told}"
        );
        let attempt = Attempt { verb: "patch", resource: "topics.apogeemq.io/status", namespace: None };
        let told = attempt.explain(&refused(403));
        assert!(told.contains("may not patch topics.apogeemq.io/status in all namespaces"), "{told}");
        let told = unseen("topics.apogeemq.io", None, &watcher::Error::InitialListFailed(refused(404)));
        assert!(told.contains("apply the definitions in crds/"), "{told}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_trouble_lasts_until_nobody_tells_of_it() {
        let health = Health::new(&[]);
        let troubles = Troubles::new(health.clone());
        let ready = health.ready();
        assert!(!*ready.borrow(), "nobody answered");
        troubles.answered();
        assert!(*ready.borrow());
        let ticks = async {
            troubles.tell("no".to_owned());
            assert!(!*ready.borrow());
            sleep(OVER / 2).await;
            troubles.tell("no".to_owned());
            sleep(OVER - LOOK_EVERY).await;
            assert!(!*ready.borrow(), "it was told again");
            sleep(LOOK_EVERY * 3).await;
            assert!(*ready.borrow());
        };
        tokio::select! {
            () = ticks => {}
            () = troubles.forget() => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_are_remembered() {
        let troubles = Troubles::new(Health::new(&[]));
        for number in 0..100 {
            troubles.tell(number.to_string());
        }
        assert_eq!(troubles.state().told.len(), MANY);
    }
}
