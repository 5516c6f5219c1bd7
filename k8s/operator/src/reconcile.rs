//! One look at one object: what it says becomes so in the cluster, and what became of it is written into its status.

use std::sync::Arc;

use futures::future::BoxFuture;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::controller::Action;
use kube::runtime::reflector::Store;
use kube::{Client, ResourceExt as _};

use crate::admin::{Cluster, ClusterError};
use crate::conditions::{SYNCED, Verdict, find};
use crate::crds::DeletionPolicy;
use crate::decide::{Lack, Refusal, Step};
use crate::kept::{Held, Kept};
use crate::report::{Did, Report};
use crate::shelf::{FINALIZER, ShelfError, write_finalizer, write_status};
use crate::watch::Looks;
use crate::watched::{Pace, full_name};

/// After a create, what it could not say is altered; more rounds mean that somebody else is at work.
const ROUNDS: usize = 3;

/// What a look needs.
pub(crate) struct Keeper<K: Kept> {
    pub(crate) client: Client,
    pub(crate) cluster: Arc<dyn Cluster<K>>,
    pub(crate) cluster_name: String,
    /// All objects that are watched.
    pub(crate) stores: Vec<Store<K>>,
    pub(crate) report: Report,
    pub(crate) pace: Pace,
}

/// An object, and what the cluster has of it so far.
struct Brought<K: Kept> {
    object: K,
    held: Held,
    there: Option<K::There>,
    did: Did,
}

/// Why it cannot be brought further.
#[derive(Debug, thiserror::Error)]
enum Halt {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(transparent)]
    Shelf(#[from] ShelfError),
}

impl<K: Kept> Looks<K> for Keeper<K> {
    fn look(self: Arc<Self>, object: Arc<K>) -> BoxFuture<'static, Result<Action, ShelfError>> {
        Box::pin(self.reconcile(object))
    }

    fn report(&self) -> &Report {
        &self.report
    }

    fn pace(&self) -> &Pace {
        &self.pace
    }
}

impl<K: Kept> Keeper<K> {
    /// See [`Looks::look`].
    async fn reconcile(self: Arc<Self>, object: Arc<K>) -> Result<Action, ShelfError> {
        if object.cluster_ref().is_some_and(|wanted| wanted != self.cluster_name) {
            return Ok(Action::await_change());
        }
        if object.meta().deletion_timestamp.is_some() {
            return self.part((*object).clone()).await;
        }
        let object = self.with_finalizer((*object).clone()).await?;
        let held = object.held();
        let mut brought = Brought { object, held, there: None, did: Did::Same };
        let outcome = self.bring(&mut brought).await;
        let there = brought.there.as_ref().map(K::describe);
        let verdict = match outcome {
            Ok(lack) => Verdict::there(there.unwrap_or_default(), lack.as_ref()),
            Err(Halt::Refused(refusal)) => {
                brought.did = Did::Refused;
                Verdict::refused(&refusal)
            }
            Err(Halt::Cluster(error)) => {
                brought.did = Did::failed(&error);
                Verdict::failed(&error, there)
            }
            Err(Halt::Shelf(error)) => return Err(error),
        };
        self.tell(brought, &verdict).await
    }

    /// An object that takes what is in the cluster with it stays until that is gone.
    async fn with_finalizer(&self, object: K) -> Result<K, ShelfError> {
        let wanted = object.deletion_policy() == DeletionPolicy::Delete;
        if wanted == has_finalizer(&object) {
            return Ok(object);
        }
        write_finalizer(&self.client, &object, wanted).await
    }

    /// Makes it so; returns what it is not even then.
    async fn bring(&self, brought: &mut Brought<K>) -> Result<Option<Lack>, Halt> {
        brought.there = self.cluster.look(&brought.object.name_there()).await?;
        if let Some(by) = self.rival(&brought.object) {
            brought.held = Held::default();
            return Err(Refusal::Rival { name: full_name(&brought.object), by }.into());
        }
        for _ in 0..ROUNDS {
            let decision = brought.object.decide(brought.held, brought.there.as_ref())?;
            let there = match decision.step {
                Step::Nothing => {
                    brought.held = Held { id: brought.there.as_ref().map(K::id), claimed: false };
                    return Ok(decision.lack);
                }
                Step::Create(ask) => {
                    brought.did = Did::Created;
                    self.create(brought, ask).await?
                }
                Step::Alter(ask) => {
                    brought.did = brought.did.or(Did::Altered);
                    self.cluster.alter(ask).await?
                }
            };
            brought.there = Some(there);
        }
        Err(ShelfError::Changed.into())
    }

    /// Asks for something new, once it is written down for whom.
    async fn create(&self, brought: &mut Brought<K>, ask: K::Create) -> Result<K::There, Halt> {
        let asked_before = brought.object.held().claimed;
        self.claim(brought).await?;
        let answer = self.cluster.create(ask).await;
        match &answer {
            // Perhaps by a create whose answer was lost.
            Err(ClusterError::Exists { .. }) if asked_before => return Err(ShelfError::Changed.into()),
            // Nothing came of it, and what comes later is made by somebody else.
            Err(ClusterError::Exists { .. } | ClusterError::Refused { .. }) => brought.held = Held::default(),
            _ => {}
        }
        Ok(answer?)
    }

    /// Writes down that the cluster has nothing of this name and this object asks for it. If the answer gets lost, or this
    /// process ends, what is there later belongs to the object.
    async fn claim(&self, brought: &mut Brought<K>) -> Result<(), ShelfError> {
        brought.held = Held { id: None, claimed: true };
        if brought.object.held() == brought.held {
            return Ok(());
        }
        let conditions = brought.object.conditions().to_vec();
        let mut status = brought.object.status(brought.held, None, conditions);
        // Not yet: the conditions are about what was.
        status["observedGeneration"] = brought.object.observed_generation().into();
        brought.object = write_status(&self.client, &brought.object, status).await?;
        Ok(())
    }

    /// Writes what became of the object, if that is new, and says when to look again.
    async fn tell(&self, brought: Brought<K>, verdict: &Verdict) -> Result<Action, ShelfError> {
        let Brought { object, held, there, did } = brought;
        let now = self.pace.now();
        let generation = object.generation();
        let conditions = verdict.conditions(object.conditions(), generation, now);
        let drift = did.changed() && object.was_synced();
        let wait = verdict.wait(&conditions, now, self.pace.resync());
        let news = find(object.conditions(), SYNCED).map(|it| it.reason.as_str()) != Some(verdict.synced.reason);
        self.report.counted::<K>(did, drift);
        let object = self.write(object, held, there.as_ref(), conditions).await?;
        if drift || news || did.changed() {
            self.report.event(&object, did, drift, verdict).await;
        }
        Ok(Action::requeue(wait))
    }

    async fn write(
        &self,
        object: K,
        held: Held,
        there: Option<&K::There>,
        conditions: Vec<Condition>,
    ) -> Result<K, ShelfError> {
        let generation = object.generation();
        let status = object.status(held, there, conditions.clone());
        let before = object.status(object.held(), None, object.conditions().to_vec());
        if status == before && object.observed_generation() == generation {
            return Ok(object);
        }
        write_status(&self.client, &object, status).await
    }

    /// An object that is deleted.
    async fn part(&self, object: K) -> Result<Action, ShelfError> {
        if !has_finalizer(&object) {
            return Ok(Action::await_change());
        }
        if object.deletion_policy() == DeletionPolicy::Delete
            && let Err(error) = self.remove(&object).await
        {
            let now = self.pace.now();
            let generation = object.generation();
            let verdict = Verdict::failed(&error, None);
            let conditions = verdict.conditions(object.conditions(), generation, now);
            let wait = verdict.wait(&conditions, now, self.pace.resync());
            let held = object.held();
            self.report.counted::<K>(Did::failed(&error), false);
            self.write(object, held, None, conditions).await?;
            return Ok(Action::requeue(wait));
        }
        write_finalizer(&self.client, &object, false).await?;
        Ok(Action::await_change())
    }

    /// Removes what belongs to the object, and nothing else.
    async fn remove(&self, object: &K) -> Result<(), ClusterError> {
        let (name, held) = (object.name_there(), object.held());
        let there = match self.cluster.look(&name).await {
            // The cluster can have nothing of such a name.
            Err(ClusterError::Refused { .. }) => None,
            there => there?,
        };
        let ours = there.is_some_and(|there| held.owns(K::id(&there))) && self.rival(object).is_none();
        if !ours {
            tracing::info!(event = "left_alone", object = %full_name(object), "deleted without what it does not own");
            return Ok(());
        }
        self.cluster.delete(&name).await?;
        self.report.counted::<K>(Did::Deleted, false);
        tracing::info!(event = "deleted", object = %full_name(object), "deleted with its object");
        Ok(())
    }

    /// Another object that keeps the same name in the cluster and goes before this one: that which has something there, or
    /// else the older one.
    fn rival(&self, object: &K) -> Option<String> {
        let name = object.name_there();
        let before = |other: &K| {
            let rank = |one: &K| {
                let made = one.creation_timestamp().map(|made| made.0);
                (!one.held().something(), made, one.namespace(), one.name_any())
            };
            rank(other) < rank(object)
        };
        let all = self.stores.iter().flat_map(Store::state);
        let here = |other: &Arc<K>| other.cluster_ref().is_none_or(|wanted| wanted == self.cluster_name);
        let mut rivals = all.filter(|other| other.uid() != object.uid() && here(other) && other.name_there() == name);
        let rival = rivals.find(|other| before(other))?;
        Some(format!("{}/{}", rival.namespace().unwrap_or_default(), rival.name_any()))
    }
}

fn has_finalizer<K: Kept>(object: &K) -> bool {
    object.finalizers().iter().any(|one| one == FINALIZER)
}

#[cfg(test)]
mod tests;
