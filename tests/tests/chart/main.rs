//! The chart of `helm/`, rendered by Helm without a cluster: what it makes, what it refuses, and whether Kubernetes and the
//! roles would take it.

mod kinds;
mod operator;
mod refused;
mod restricted;
mod watch;

use std::path::PathBuf;
use std::process::{Command, Output};

use anyhow::{Context, ensure};
use apogee_tests::sdk::{compat_env, ours};
use apogee_tests::server::binary;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::Value;

/// What people start from; each is a file of the chart, but the first.
const PROFILES: [&str; 4] = ["default", "dev", "minimal", "production"];
/// Everything that is off unless it is asked for, the operator as well; and what excludes that.
const MORE: [&str; 2] = ["all", "keda"];

fn chart() -> PathBuf {
    ours("../helm")
}

fn helm(arguments: &[&str], values: &[String]) -> anyhow::Result<Output> {
    let mut command = Command::new(compat_env()?.join("helm/helm"));
    command.args(arguments).args(values).env_remove("KUBECONFIG");
    command.output().with_context(|| format!("{command:?} does not start; `make test` sets it up"))
}

/// Values of a profile. They have a token of their own: the chart's would be another one each time.
fn values(profile: &str) -> Vec<String> {
    let mut values = vec!["--set".to_owned(), "cluster.existingSecret=token".to_owned()];
    let file = match profile {
        "default" => return values,
        more if MORE.contains(&more) => ours(&format!("chart/{more}.yaml")),
        _ => chart().join(format!("values-{profile}.yaml")),
    };
    values.extend(["--values".to_owned(), file.display().to_string()]);
    values
}

/// What `helm template` prints, or what it says when it refuses.
fn rendered(values: &[String]) -> anyhow::Result<Result<String, String>> {
    let chart = chart().display().to_string();
    let output = helm(&["template", "apogee", &chart, "--namespace", "queues", "--kube-version", "1.34"], values)?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ok(if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) })
}

/// The objects of a profile.
fn objects(profile: &str) -> anyhow::Result<Vec<Value>> {
    let text = rendered(&values(profile))?.map_err(anyhow::Error::msg)?;
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text)?;
    Ok(objects.into_iter().filter(|object| !object.is_null()).collect())
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> impl Iterator<Item = &'a Value> {
    objects.iter().filter(move |object| object["kind"] == kind)
}

fn every_case() -> impl Iterator<Item = &'static str> {
    PROFILES.into_iter().chain(MORE)
}

#[test]
fn helm_finds_nothing_wrong() -> anyhow::Result<()> {
    for case in every_case() {
        let chart = chart().display().to_string();
        let output = helm(&["lint", "--strict", "--quiet", &chart], &values(case))?;
        ensure!(output.status.success(), "{case}: {}", String::from_utf8_lossy(&output.stdout));
    }
    Ok(())
}

/// A change of what the chart makes is seen in review: `make chart-golden` writes the files anew.
#[test]
fn it_makes_what_it_made() -> anyhow::Result<()> {
    for case in every_case() {
        let made = rendered(&values(case))?.map_err(anyhow::Error::msg)?;
        let file = ours(&format!("chart/golden/{case}.yaml"));
        if std::env::var_os("CHART_GOLDEN").is_some() {
            std::fs::write(&file, made)?;
            continue;
        }
        let golden = std::fs::read_to_string(&file)?;
        let line = made.lines().zip(golden.lines()).position(|(made, golden)| made != golden);
        ensure!(made == golden, "{}, line {:?}: `make chart-golden`", file.display(), line.map(|line| line + 1));
    }
    Ok(())
}

/// Each role reads the file that the chart makes for it.
#[test]
fn the_roles_take_their_files() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut checked = 0;
    for case in every_case() {
        for map in of_kind(&objects(case)?, "ConfigMap") {
            let files = map["data"].as_object().context("a map of files")?;
            for (name, text) in files.iter().filter(|(name, _)| name.ends_with(".toml")) {
                let file = folder.path().join(name);
                // The certificate is not here.
                let lines = text.as_str().context("text")?.lines().filter(|line| !line.starts_with("tls."));
                std::fs::write(&file, lines.collect::<Vec<_>>().join("\n"))?;
                let role = name.trim_end_matches(".toml");
                let output = Command::new(binary()?)
                    .args([role, "--check-config", "--config"])
                    .arg(&file)
                    .env("APOGEE_CLUSTER__TOKEN", "ab".repeat(32))
                    .output()?;
                ensure!(output.status.success(), "{case}, {role}: {}", String::from_utf8_lossy(&output.stderr));
                checked += 1;
            }
        }
    }
    ensure!(checked == 3 * every_case().count() + MORE.len(), "{checked} files");
    Ok(())
}

/// Without one of the user's, the token is a new one of 256 bits, and stays when the release goes.
#[test]
fn a_token_is_made() -> anyhow::Result<()> {
    let token = || {
        let text = rendered(&[])?.map_err(anyhow::Error::msg)?;
        let objects: Vec<Value> = serde_saphyr::from_multiple(&text)?;
        let secret = of_kind(&objects, "Secret").next().context("a secret")?.clone();
        ensure!(secret["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep");
        Ok(secret["data"]["token"].as_str().context("a token")?.to_owned())
    };
    let (one, other) = (token()?, token()?);
    ensure!(one != other, "the same token twice");
    for token in [one, other] {
        let decoded = BASE64_STANDARD.decode(token)?;
        ensure!(decoded.len() == 64 && decoded.iter().all(u8::is_ascii_hexdigit), "{decoded:?}");
    }
    Ok(())
}

/// Whom pods find by their names: addresses of namesrv and members are those of the headless Service.
#[test]
fn pods_are_found_by_the_names_in_the_files() -> anyhow::Result<()> {
    let objects = objects("default")?;
    let service = of_kind(&objects, "Service").find(|it| it["metadata"]["name"] == "apogee-namesrv");
    let service = service.context("the headless Service of namesrv")?;
    ensure!(service["spec"]["clusterIP"] == "None" && service["spec"]["publishNotReadyAddresses"] == true);
    for map in of_kind(&objects, "ConfigMap") {
        let text = map["data"].to_string();
        for member in 0..3 {
            let host = format!("apogee-namesrv-{member}.apogee-namesrv.queues.svc.cluster.local:9876");
            ensure!(text.contains(&host), "{host} in {text}");
        }
    }
    Ok(())
}

/// What a user reads after an installation. `helm template` does not show the notes: here they are an object, in a copy.
#[test]
fn the_notes_say_how_to_begin_and_warn() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let copy = folder.path().join("chart");
    ensure!(Command::new("cp").arg("-r").arg(chart()).arg(&copy).status()?.success());
    std::fs::rename(copy.join("templates/NOTES.txt"), copy.join("notes"))?;
    std::fs::write(copy.join("templates/notes.yaml"), r#"notes: {{ tpl (.Files.Get "notes") . | toJson }}"#)?;
    let notes = |more: &[&str]| {
        let mut values = values("default");
        values.extend(more.iter().map(|&value| value.to_owned()));
        let chart = copy.display().to_string();
        let only = ["--show-only", "templates/notes.yaml"];
        let output = helm(&[&["template", "apogee", &chart, "--namespace", "queues"], &only[..]].concat(), &values)?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let object: Value = serde_saphyr::from_str(&String::from_utf8(output.stdout)?)?;
        Ok(object["notes"].as_str().context("notes")?.to_owned())
    };
    let usual = notes(&[])?;
    for part in ["apogee-proxy.queues.svc.cluster.local:8081", "get secret token", "message send", "message receive"] {
        ensure!(usual.contains(part), "{part} in {usual}");
    }
    ensure!(!usual.contains("WARNING"), "{usual}");
    let unsafe_ = notes(&["--set", "storeNode.durability.ackMode=memory,storeNode.replicationFactor=1"])?;
    ensure!(unsafe_.matches("WARNING").count() == 2, "{unsafe_}");
    Ok(())
}
