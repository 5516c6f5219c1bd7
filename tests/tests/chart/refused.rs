//! Values that cannot work, or that nobody knows, are refused in a sentence before anything is made.

use anyhow::ensure;

use super::rendered;

#[test]
fn what_cannot_work_is_refused() -> anyhow::Result<()> {
    for (set, sentence) in [
        ("storeNode.replicas=2", "storeNode.replicationFactor is 3 and there are only 2 store-nodes"),
        (
            "proxy.autoscaling.keda.enabled=true,proxy.autoscaling.enabled=false",
            "keda.enabled needs proxy.autoscaling.enabled",
        ),
        ("proxy.autoscaling.minReplicas=30", "proxy.autoscaling.minReplicas is 30, more than maxReplicas, which is 20"),
        ("proxy.autoscaling.minReplicas=1", "proxy.pdb.enabled with fewer than two proxies lets no node be drained"),
        ("proxy.autoscaling.enabled=false,proxy.replicas=1", "proxy.pdb.enabled with fewer than two proxies"),
        ("storeNode.replicas=1,storeNode.replicationFactor=1", "storeNode.pdb.enabled with one replica"),
        ("namesrv.replicas=1", "namesrv.pdb.enabled with one replica"),
        ("operator.enabled=true,operator.pdb.enabled=true", "operator.pdb.enabled with one replica"),
        ("operator.config.watch.namespaces={a}", "set operator.watchAllNamespaces"),
        ("gateway.enabled=true", "gateway.enabled needs gateway.parentRefs"),
        ("metrics.serviceMonitor.enabled=true,metrics.podMonitor.enabled=true", "read everything twice"),
        ("proxy.resources.requests.cpu=null", "proxy.autoscaling.enabled needs proxy.resources.requests.cpu"),
    ] {
        refused(set, sentence)?;
    }
    Ok(())
}

#[test]
fn what_nobody_knows_is_refused() -> anyhow::Result<()> {
    for (set, part) in [
        ("proxy.replica=3", "'replica' not allowed"),
        ("auth.enabled=true", "'auth' not allowed"),
        ("storeNode.replicationFactor=2", "storeNode/replicationFactor"),
        ("storeNode.durability.ackMode=sometimes", "storeNode/durability/ackMode"),
        ("storeNode.persistence.size=plenty", "storeNode/persistence/size"),
        ("namesrv.replicas=2", "namesrv/replicas"),
        ("proxy.service.type=ExternalName", "proxy/service/type"),
        ("logging.format=xml", "logging/format"),
        ("gateway.parentRefs[0].namespace=edge", "missing property 'name'"),
        ("metrics.podMonitor.interval=often", "metrics/podMonitor/interval"),
        ("proxy.pdb.enabled=maybe", "proxy/pdb/enabled"),
        ("operator.replicas=3", "operator/replicas"),
        ("operator.watchAllNamespaces=some", "operator/watchAllNamespaces"),
        ("operator.storeNodes=3", "operator/storeNodes"),
        ("operator.namespaces={a}", "'namespaces' not allowed"),
    ] {
        refused(set, part)?;
    }
    Ok(())
}

fn refused(set: &str, sentence: &str) -> anyhow::Result<()> {
    match rendered(&["--set".to_owned(), set.to_owned()])? {
        Ok(_) => anyhow::bail!("{set} is taken"),
        Err(told) => {
            ensure!(told.contains(sentence), "{set}: {sentence:?} is not in\n{told}");
            Ok(())
        }
    }
}
