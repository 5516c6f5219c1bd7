//! `apogee lite …`: lite topics, which come with their first message or subscription.

use apogee_proto::admin::v1;
use clap::Subcommand;
use serde_json::{Value, json};

use super::error::{CliError, RequestId};
use super::output::{Output, Table, plain};
use super::pages;
use super::target::{Admin, Target};
use super::topic::split;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Lists the lite topics of a topic
    List {
        /// Name of the topic
        topic: String,
    },
    /// Shows a lite topic, the consumer groups that read it, and the clients that are subscribed
    Describe {
        /// Name of the topic
        topic: String,
        /// Name of the lite topic
        name: String,
    },
}

pub(crate) async fn run(verb: Verb, target: &Target, output: &Output, id: &RequestId) -> Result<(), CliError> {
    let admin = target.admin(id).await?;
    match verb {
        Verb::List { topic } => list(admin, output, &topic).await,
        Verb::Describe { topic, name } => describe(admin, output, &topic, name).await,
    }
}

async fn list(mut admin: Admin, output: &Output, topic: &str) -> Result<(), CliError> {
    let (namespace, name) = split(topic);
    let all = pages::all(async |page_token| {
        let (namespace, topic) = (namespace.clone(), name.clone());
        let ask = v1::ListLiteTopicsRequest { namespace, topic, page_size: 0, page_token };
        let answer = admin.api.list_lite_topics(ask).await.map_err(|status| CliError::call(&admin.address, status))?;
        let page = answer.into_inner();
        Ok((page.lite_topics, page.next_page_token))
    });
    let all = all.await?;
    let mut table = Table::with_wide(&["NAME", "MESSAGES", "WRITTEN", "GROUPS"], &["MIN", "MAX", "BROKER"]);
    for lite in &all {
        table.row([
            plain(&lite.name),
            (lite.max_offset - lite.min_offset.min(lite.max_offset)).to_string(),
            written(lite).unwrap_or_default(),
            lite.groups.len().to_string(),
            lite.min_offset.to_string(),
            lite.max_offset.to_string(),
            lite.broker.clone(),
        ]);
    }
    Ok(output.show(&json!({ "lite_topics": all.iter().map(document).collect::<Vec<_>>() }), &table)?)
}

async fn describe(mut admin: Admin, output: &Output, topic: &str, name: String) -> Result<(), CliError> {
    let (namespace, topic) = split(topic);
    let ask = v1::DescribeLiteTopicRequest { namespace, topic, name };
    let answer = admin.api.describe_lite_topic(ask).await.map_err(|status| CliError::call(&admin.address, status))?;
    let lite = answer.into_inner().lite_topic.ok_or(CliError::Incomplete { what: "lite topic" })?;
    let mut about = Table::new(&["NAME", "MIN", "MAX", "WRITTEN", "BROKER"]);
    let (min, max) = (lite.min_offset.to_string(), lite.max_offset.to_string());
    about.row([plain(&lite.name), min, max, written(&lite).unwrap_or_default(), lite.broker.clone()]);
    let mut groups = Table::new(&["GROUP", "COMMITTED", "LAG", "IN_FLIGHT", "CLIENTS"]);
    for group in &lite.groups {
        groups.row([
            plain(&group.group),
            group.committed.to_string(),
            lite.max_offset.saturating_sub(group.committed).to_string(),
            group.in_flight.to_string(),
            group.clients.iter().map(|client| plain(client)).collect::<Vec<_>>().join(" "),
        ]);
    }
    Ok(output.show_all(&document(&lite), &[("", &about), ("groups", &groups)])?)
}

fn written(lite: &v1::LiteTopic) -> Option<String> {
    lite.written.map(|written| written.to_string())
}

fn document(lite: &v1::LiteTopic) -> Value {
    let group = |group: &v1::LiteTopicGroup| {
        json!({
            "group": group.group,
            "committed": group.committed,
            "in_flight": group.in_flight,
            "clients": group.clients,
        })
    };
    json!({
        "name": lite.name,
        "broker": lite.broker,
        "min_offset": lite.min_offset,
        "max_offset": lite.max_offset,
        "written": written(lite),
        "groups": lite.groups.iter().map(group).collect::<Vec<_>>(),
    })
}
