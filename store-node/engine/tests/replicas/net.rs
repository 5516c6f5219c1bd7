//! The network between the replicas of one process: frames go from one to the ear of the other, while both are there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use apogee_engine::{Answers, Ear, Peers, Unreachable};
use apogee_model::ReplicaId;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _, future, stream};
use tokio::time::sleep;

/// Who listens. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Net(Arc<Mutex<BTreeMap<ReplicaId, Plug>>>);

/// One process of a replica.
#[derive(Clone)]
struct Plug {
    ear: Ear,
    process: u64,
}

/// The network as one process sees it; nothing leaves or reaches it any more when the process is unplugged.
pub(crate) struct Wire {
    net: Net,
    me: ReplicaId,
    process: u64,
}

impl Net {
    pub(crate) fn plug_in(&self, me: ReplicaId, process: u64, ear: Ear) -> Wire {
        self.plugs().insert(me, Plug { ear, process });
        Wire { net: self.clone(), me, process }
    }

    pub(crate) fn unplug(&self, replica: ReplicaId) {
        self.plugs().remove(&replica);
    }

    fn has(&self, replica: ReplicaId, process: u64) -> bool {
        self.plugs().get(&replica).is_some_and(|plug| plug.process == process)
    }

    fn plugs(&self) -> MutexGuard<'_, BTreeMap<ReplicaId, Plug>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wire {
    fn reach(&self, to: ReplicaId) -> Result<Plug, Away> {
        let there = self.net.plugs().get(&to).cloned();
        there.filter(|_| self.net.has(self.me, self.process)).ok_or(Away(to))
    }
}

impl Peers for Wire {
    fn call(&self, to: ReplicaId, frame: Bytes) -> BoxFuture<'static, Result<Bytes, Unreachable>> {
        let reached = self.reach(to);
        async move {
            let plug = match reached {
                Ok(plug) => plug,
                Err(away) => return Err(away.noticed().await),
            };
            let answer = plug.ear.answer(frame).await;
            answer.map_err(|refused| Unreachable { to, why: refused.to_string() })
        }
        .boxed()
    }

    fn pipeline(&self, to: ReplicaId, frames: BoxStream<'static, Bytes>) -> Answers {
        let Plug { ear, process: theirs } = match self.reach(to) {
            Ok(plug) => plug,
            Err(away) => return stream::once(away.noticed().map(Err)).boxed(),
        };
        let (net, me, ours) = (self.net.clone(), self.me, self.process);
        let plugged = move || net.has(me, ours) && net.has(to, theirs);
        let still = plugged.clone();
        let frames = frames.take_while(move |_| future::ready(plugged())).boxed();
        let answers = ear.answer_pipeline(frames).take_while(move |_| future::ready(still()));
        answers.map(Ok).boxed()
    }
}

/// Nobody is there.
struct Away(ReplicaId);

impl Away {
    /// It takes a moment to find out, and callers ask again at once.
    async fn noticed(self) -> Unreachable {
        sleep(Duration::from_millis(20)).await;
        Unreachable { to: self.0, why: "it is not there".to_owned() }
    }
}
