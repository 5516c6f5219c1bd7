//! All objects of one kind, each looked at when it changes and from time to time.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::{BoxFuture, join_all, ready};
use kube::runtime::controller::{self, Action, Controller};
use kube::runtime::reflector::{self, Store, store::Writer};
use kube::runtime::utils::Backoff;
use kube::runtime::{Predicate as _, PredicateConfig, WatchStreamExt as _, predicates, watcher};
use kube::{Api, Client};

use crate::report::Report;
use crate::shelf::ShelfError;
use crate::trouble::{Troubles, unseen};
use crate::watched::{Pace, Watched, full_name};

/// Looks at a time, of each kind.
const AT_A_TIME: u16 = 8;
/// Between two attempts to watch.
const RETRY: Duration = Duration::from_secs(2);

/// Until the store of objects knows what was written meanwhile.
pub(crate) const CHANGED_AGAIN: Duration = Duration::from_millis(500);

/// Who looks at the objects of a kind.
pub(crate) trait Looks<K: Watched>: Send + Sync + 'static {
    /// Looks at one object, and says when to look again.
    ///
    /// # Errors
    /// [`ShelfError`] when the API server did not take what is to be written; all is to be done again.
    fn look(self: Arc<Self>, object: Arc<K>) -> BoxFuture<'static, Result<Action, ShelfError>>;

    fn report(&self) -> &Report;
    fn pace(&self) -> &Pace;

    /// When an object is looked at again whose look failed.
    fn after(&self, object: &K, error: &ShelfError) -> Action {
        match error {
            ShelfError::Changed => Action::requeue(CHANGED_AGAIN),
            ShelfError::Trouble(sentence) => {
                self.report().trouble(sentence.clone());
                tracing::debug!(object = %full_name(object), %error, "to be looked at again");
                Action::requeue(self.pace().resync())
            }
        }
    }
}

/// Where objects are watched.
pub(crate) struct Place<K: Watched> {
    /// `None`: in all namespaces.
    namespace: Option<String>,
    writer: Writer<K>,
    reader: Store<K>,
}

/// The places of `namespaces`; all there is when there are none.
pub(crate) fn places<K: Watched>(namespaces: &[String]) -> Vec<Place<K>> {
    let place = |namespace| {
        let (reader, writer) = reflector::store();
        Place { namespace, writer, reader }
    };
    if namespaces.is_empty() {
        return vec![place(None)];
    }
    namespaces.iter().cloned().map(Some).map(place).collect()
}

pub(crate) fn stores<K: Watched>(places: &[Place<K>]) -> Vec<Store<K>> {
    places.iter().map(|place| place.reader.clone()).collect()
}

/// Keeps all objects in `places` until it is dropped, and every look that is under way with it.
pub(crate) async fn keep<K: Watched, L: Looks<K>>(
    client: Client,
    places: Vec<Place<K>>,
    keeper: Arc<L>,
    troubles: Troubles,
) {
    let all = places.into_iter().map(|place| keep_place(client.clone(), place, Arc::clone(&keeper), troubles.clone()));
    join_all(all).await;
}

async fn keep_place<K: Watched, L: Looks<K>>(client: Client, place: Place<K>, keeper: Arc<L>, troubles: Troubles) {
    let Place { namespace, writer, reader } = place;
    let api = match &namespace {
        Some(namespace) => Api::<K>::namespaced(client, namespace),
        None => Api::all(client),
    };
    // What we write ourselves, the status, is no change.
    let changes = predicates::generation.combine(predicates::annotations).combine(predicates::finalizers);
    let objects = watcher(api, watcher::Config::default())
        .reflect(writer)
        .applied_objects()
        .predicate_filter(changes, PredicateConfig::default());
    let looks = Controller::for_stream(objects, reader)
        .with_config(controller::Config::default().concurrency(AT_A_TIME))
        .trigger_backoff(Every(RETRY))
        .run(
            |object, keeper: Arc<L>| keeper.look(object),
            |object, error: &ShelfError, keeper| keeper.after(&object, error),
            keeper,
        );
    looks
        .for_each(|look| {
            if let Err(controller::Error::QueueError(error)) = look {
                troubles.tell(unseen(K::RESOURCE, namespace.as_deref(), &error));
            }
            ready(())
        })
        .await;
}

/// The same rest every time.
struct Every(Duration);

impl Iterator for Every {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.0)
    }
}

impl Backoff for Every {
    fn reset(&mut self) {}
}
