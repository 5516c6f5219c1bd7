//! What the operator may do: what it needs, where it needs it.

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::{objects, of_kind, rendered, values};

fn named<'a>(objects: &'a [Value], kind: &str) -> anyhow::Result<&'a Value> {
    let mut all = of_kind(objects, kind);
    let one = all.next().with_context(|| format!("a {kind}"))?;
    ensure!(all.next().is_none(), "more than one {kind}");
    Ok(one)
}

/// Who is bound, and whether the pods of the operator run as that.
fn bound(objects: &[Value], binding: &Value, role: &Value) -> anyhow::Result<()> {
    ensure!(binding["roleRef"]["kind"] == role["kind"] && binding["roleRef"]["name"] == role["metadata"]["name"]);
    let subject = &binding["subjects"][0];
    let mut deployments = of_kind(objects, "Deployment");
    let operator = deployments.find(|it| it["metadata"]["labels"]["app.kubernetes.io/component"] == "operator");
    let account = &operator.context("an operator")?["spec"]["template"]["spec"]["serviceAccountName"];
    ensure!(subject["name"] == *account && subject["namespace"] == "queues", "{subject}");
    Ok(())
}

/// The rules for its kinds, apart from those for its lease.
fn kinds() -> [Value; 3] {
    [
        json!({
            "apiGroups": ["apogeemq.io"], "resources": ["topics", "consumergroups"],
            "verbs": ["get", "list", "watch", "patch"],
        }),
        json!({
            "apiGroups": ["apogeemq.io"], "resources": ["topics/status", "consumergroups/status"], "verbs": ["patch"],
        }),
        json!({"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]}),
    ]
}

/// What it needs for the number of store-nodes, which it may not need elsewhere.
fn store_nodes(set: &str) -> [Value; 5] {
    [
        json!({"apiGroups": ["apogeemq.io"], "resources": ["storenodes"], "verbs": ["get", "list", "watch"]}),
        json!({"apiGroups": ["apogeemq.io"], "resources": ["storenodes/status"], "verbs": ["patch"]}),
        json!({"apiGroups": ["apps"], "resources": ["statefulsets"], "verbs": ["get"]}),
        json!({
            "apiGroups": ["apps"], "resources": ["statefulsets/scale"], "resourceNames": [set], "verbs": ["patch"],
        }),
        json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}),
    ]
}

fn lease(name: &str) -> [Value; 2] {
    [
        json!({"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]}),
        json!({
            "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": [name],
            "verbs": ["get", "update"],
        }),
    ]
}

#[test]
fn without_an_operator_nobody_may_do_anything() -> anyhow::Result<()> {
    let objects = objects("default")?;
    ensure!(objects.iter().all(|it| it["apiVersion"] != "rbac.authorization.k8s.io/v1"));
    Ok(())
}

#[test]
fn an_operator_of_one_namespace_may_do_nothing_elsewhere() -> anyhow::Result<()> {
    let objects = objects("keda")?;
    let role = named(&objects, "Role")?;
    let rules = [&lease("apogee-operator")[..], &store_nodes("apogee-store-node"), &kinds()].concat();
    ensure!(role["rules"] == json!(rules), "{role}");
    bound(&objects, named(&objects, "RoleBinding")?, role)?;
    ensure!(of_kind(&objects, "ClusterRole").next().is_none());
    Ok(())
}

#[test]
fn an_operator_of_all_namespaces_has_its_lease_at_home() -> anyhow::Result<()> {
    let objects = objects("all")?;
    let role = named(&objects, "Role")?;
    let rules = [&lease("apogee-queue-operator")[..], &store_nodes("apogee-queue-store-node")].concat();
    ensure!(role["rules"] == json!(rules), "{role}");
    bound(&objects, named(&objects, "RoleBinding")?, role)?;
    let role = named(&objects, "ClusterRole")?;
    ensure!(role["rules"] == json!(kinds()), "{role}");
    bound(&objects, named(&objects, "ClusterRoleBinding")?, role)?;
    Ok(())
}

/// The object is about the StatefulSet there is, and nothing of it is there unless it is wanted.
#[test]
fn the_number_of_store_nodes_is_an_object() -> anyhow::Result<()> {
    for (case, name, replicas) in [("keda", "apogee", 3), ("all", "apogee-queue", 5)] {
        let objects = objects(case)?;
        let object = named(&objects, "StoreNodes")?;
        ensure!(object["metadata"]["name"] == name && object["spec"]["replicas"] == replicas, "{object}");
        let mut sets = of_kind(&objects, "StatefulSet");
        let set = sets.find(|it| it["metadata"]["name"] == object["spec"]["statefulSet"]).context("its StatefulSet")?;
        ensure!(set["spec"]["replicas"] == replicas, "{set}");
    }
    let mut without = values("keda");
    without.extend(["--set".to_owned(), "operator.storeNodes=false".to_owned()]);
    let text = rendered(&without)?.map_err(anyhow::Error::msg)?;
    ensure!(text.contains("watch.store_nodes = false"), "{text}");
    ensure!(!text.contains("StoreNodes") && !text.contains("storenodes") && !text.contains("statefulsets"), "{text}");
    Ok(())
}

/// Where only some may use the admin API, the operator is among them.
#[test]
fn the_operator_reaches_the_admin_port() -> anyhow::Result<()> {
    let objects = objects("all")?;
    let mut policies = of_kind(&objects, "NetworkPolicy");
    let proxy = policies.find(|it| it["metadata"]["labels"]["app.kubernetes.io/component"] == "proxy");
    let ingress = proxy.context("a policy for proxies")?["spec"]["ingress"].as_array().context("rules")?;
    let admin = ingress.iter().find(|rule| rule["ports"][0]["port"] == "admin").context("a rule for the admin port")?;
    let peers = admin["from"].as_array().context("peers")?;
    let component = |peer: &Value| peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "operator";
    ensure!(peers.iter().any(component), "{admin}");
    Ok(())
}
