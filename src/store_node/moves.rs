//! What the leader of a replica group tells namesrv of a replica that moves: how far it has come. It is told until namesrv
//! shows it, so nothing of it is remembered: whoever leads next reads it from the membership and says the same.

use std::convert::Infallible;
use std::time::Duration;

use apogee_engine::{Engine, Reached, ReachedHow};
use apogee_host::{OnError, Tasks};
use apogee_model::{MoveStage, ReplicaGroup, ReplicaGroupId};
use apogee_namesrv::NamesrvClient;
use tokio::sync::watch;
use tokio::time::sleep;

/// When it is told again to a namesrv that does not show it.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Tells of the moves of a replica group while its replica here leads, for as long as the tasks run.
pub(super) fn report(client: &NamesrvClient, group: ReplicaGroupId, engine: &Engine, tasks: &Tasks) {
    let (client, reached, stop) = (client.clone(), engine.reached(), tasks.token());
    tasks.spawn("moves", OnError::StopProcess, async move {
        stop.run_until_cancelled(tell(client, group, reached)).await;
        Ok::<_, Infallible>(())
    });
}

async fn tell(client: NamesrvClient, group: ReplicaGroupId, mut reached: watch::Receiver<Option<Reached>>) {
    let mut cluster = client.watch();
    loop {
        let now = *reached.borrow_and_update();
        let known =
            cluster.borrow_and_update().as_ref().and_then(|cluster| cluster.replica_groups.get(&group).cloned());
        let Some(news) = known.zip(now).and_then(|(known, now)| news(&known, now)) else {
            tokio::select! {
                Ok(()) = reached.changed() => {}
                Ok(()) = cluster.changed() => {}
                else => return, // the replica closes
            }
            continue;
        };
        let told = match news.how {
            ReachedHow::Ready => client.move_ready(group, news.comes).await,
            ReachedHow::Done => client.move_done(group, news.comes).await,
        };
        match told {
            Ok(()) => tracing::info!(event = "move_told", %group, ?news, "namesrv knows how far a replica has come"),
            Err(error) => tracing::warn!(event = "move_untold", %group, ?news, %error, "namesrv is told again"),
        }
        sleep(AGAIN_AFTER).await;
    }
}

/// What namesrv does not know yet.
fn news(known: &ReplicaGroup, reached: Reached) -> Option<Reached> {
    let moving = known.moving.as_ref().filter(|moving| moving.comes == reached.comes)?;
    let is_news = match reached.how {
        ReachedHow::Ready => moving.stage == MoveStage::Joins,
        ReachedHow::Done => true,
    };
    is_news.then_some(reached)
}

#[cfg(test)]
mod tests {
    use apogee_model::{NodeName, ReplicaId, ReplicaMove};

    use super::*;

    #[test]
    fn only_what_namesrv_does_not_know_is_told() {
        let name = |node| NodeName::parse(node).expect("a plain name");
        let told = |stage: Option<MoveStage>, comes, how| {
            let replicas = [(ReplicaId(1), name("n1")), (ReplicaId(2), name("n2"))].into();
            let moving =
                stage.map(|stage| ReplicaMove { leaves: ReplicaId(1), comes: ReplicaId(3), to: name("n3"), stage });
            let group = ReplicaGroup { moving, ..ReplicaGroup::new(ReplicaGroupId(0), replicas, ReplicaId(1)) };
            news(&group, Reached { comes: ReplicaId(comes), how }).is_some()
        };
        let (joins, swaps) = (Some(MoveStage::Joins), Some(MoveStage::Swaps));
        assert_eq!([joins, swaps, None].map(|stage| told(stage, 3, ReachedHow::Ready)), [true, false, false]);
        assert_eq!([joins, swaps, None].map(|stage| told(stage, 3, ReachedHow::Done)), [true, true, false]);
        assert_eq!([joins, swaps, None].map(|stage| told(stage, 4, ReachedHow::Done)), [false, false, false]);
    }
}
