//! Every pod fits the `restricted` profile of pod security, and asks for what it needs.

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::{every_case, objects};

#[test]
fn pods_have_no_rights() -> anyhow::Result<()> {
    for case in every_case() {
        let objects = objects(case)?;
        let pods = objects.iter().filter_map(|object| match object["kind"].as_str()? {
            "Pod" => Some(&object["spec"]),
            "Deployment" | "StatefulSet" => Some(&object["spec"]["template"]["spec"]),
            _ => None,
        });
        let mut count = 0;
        for pod in pods {
            restricted(pod).with_context(|| format!("{case}: {}", pod["containers"][0]["name"]))?;
            count += 1;
        }
        // Three roles and a test; with "keda" the operator in the place of the test.
        let wanted = if case == "all" { 5 } else { 4 };
        ensure!(count == wanted, "{case}: {count} pods");
    }
    Ok(())
}

fn restricted(pod: &Value) -> anyhow::Result<()> {
    let security = &pod["securityContext"];
    ensure!(security["runAsNonRoot"] == true && security["runAsUser"] == 10001, "{security}");
    ensure!(security["seccompProfile"]["type"] == "RuntimeDefault", "{security}");
    // The operator alone asks the API server for anything.
    let asks = pod["containers"][0]["name"] == "operator";
    ensure!(pod["automountServiceAccountToken"] == asks && pod["enableServiceLinks"] == false);
    for key in ["hostNetwork", "hostPID", "hostIPC"] {
        ensure!(pod[key].is_null(), "{key}");
    }
    let volumes = pod["volumes"].as_array().context("volumes")?;
    ensure!(volumes.iter().all(|volume| volume["hostPath"].is_null()), "{volumes:?}");
    let containers = [&pod["initContainers"], &pod["containers"]];
    for container in containers.iter().filter_map(|list| list.as_array()).flatten() {
        let security = &container["securityContext"];
        ensure!(security["allowPrivilegeEscalation"] == false, "{security}");
        ensure!(security["readOnlyRootFilesystem"] == true, "{security}");
        ensure!(security["capabilities"] == json!({ "drop": ["ALL"] }), "{security}");
        let secret =
            container["env"].as_array().context("env")?.iter().find(|env| !env["valueFrom"]["secretKeyRef"].is_null());
        ensure!(secret.is_none(), "a secret in the environment: {secret:?}");
    }
    Ok(())
}

/// The memory that a role is promised is all it gets, and every role says what it needs of a processor.
#[test]
fn roles_ask_for_what_they_use() -> anyhow::Result<()> {
    for object in objects("default")?.iter().filter(|it| it["kind"] == "Deployment" || it["kind"] == "StatefulSet") {
        let resources = &object["spec"]["template"]["spec"]["containers"][0]["resources"];
        ensure!(resources["requests"]["memory"] == resources["limits"]["memory"], "{resources}");
        ensure!(!resources["requests"]["cpu"].is_null() && resources["limits"]["cpu"].is_null(), "{resources}");
    }
    Ok(())
}
