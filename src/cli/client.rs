//! `apogee client …`: who is connected, to which proxy, and what its threads do.

mod stack;

use std::collections::BTreeSet;
use std::io::{self, Write as _};

use apogee_proto::admin::v1;
use clap::Subcommand;
use serde_json::{Value, json};

pub(super) use self::stack::wait_ms;
use super::error::{CliError, RequestId};
use super::output::{Output, Table, plain};
use super::subscription;
use super::target::{Admin, Target};
use super::topic::{join, split};

/// Clients per page: even the longest ids and lists of topics fit into one answer.
const PAGE: u32 = 200;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Lists the clients that the proxies of the cluster hear
    List {
        /// Only consumers of this group
        #[arg(long)]
        group: Option<String>,
        /// Only those that named this topic
        #[arg(long)]
        topic: Option<String>,
        /// Only clients of the proxy that is asked
        #[arg(long)]
        local_only: bool,
    },
    /// Shows what every proxy knows of one client
    Describe { id: String },
    /// Asks a client of any proxy what its threads do
    Stack { id: String },
}

pub(crate) async fn run(verb: Verb, target: &Target, output: &Output, id: &RequestId) -> Result<(), CliError> {
    let wanted = match verb {
        Verb::Describe { id: client } => return describe(&mut target.admin(id).await?, output, client).await,
        Verb::Stack { id: client } => {
            return stack::run(client, target.given_timeout(), &mut target.admin(id).await?, output).await;
        }
        Verb::List { group, topic, local_only } => wanted(group, topic, local_only)?,
    };
    list(&mut target.admin(id).await?, output, wanted).await
}

/// The first page of what is asked for; a group and a topic are of one namespace.
fn wanted(group: Option<String>, topic: Option<String>, local_only: bool) -> Result<v1::ListClientsRequest, CliError> {
    let (of_group, group) = group.as_deref().map(split).unwrap_or_default();
    let (of_topic, topic) = topic.as_deref().map(split).unwrap_or_default();
    if !group.is_empty() && !topic.is_empty() && of_group != of_topic {
        let message = format!("group {group} and topic {topic} are of different namespaces, which no client spans");
        return Err(CliError::Usage { message });
    }
    let namespace = if group.is_empty() { of_topic } else { of_group };
    Ok(v1::ListClientsRequest { page_size: PAGE, page_token: String::new(), local_only, namespace, group, topic })
}

async fn list(admin: &mut Admin, output: &Output, mut ask: v1::ListClientsRequest) -> Result<(), CliError> {
    let (mut clients, mut missing) = (Vec::new(), Vec::new());
    loop {
        let answer = admin.api.list_clients(ask.clone()).await;
        let page = answer.map_err(|status| CliError::call(&admin.address, status))?.into_inner();
        clients.extend(page.clients);
        note(&mut missing, page.missing);
        if page.next_page_token.is_empty() {
            break;
        }
        ask.page_token = page.next_page_token;
    }
    let v1::ListClientsRequest { namespace, group, local_only, .. } = ask;
    let all = v1::ListSubscriptionsRequest { namespace, group, inconsistent_only: true, local_only };
    let differ = subscription::find(admin, all).await?.groups;
    show(output, &clients, &missing, &differ, Shape::List)?;
    Ok(subscription::warn(&differ)?)
}

async fn describe(admin: &mut Admin, output: &Output, id: String) -> Result<(), CliError> {
    let answer = admin.api.describe_client(v1::DescribeClientRequest { id, local_only: false }).await;
    let found = answer.map_err(|status| CliError::call(&admin.address, status))?.into_inner();
    let of_group = found.clients.iter().find(|client| !client.group.is_empty());
    let differ = match of_group.map(|client| (client.namespace.clone(), client.group.clone())) {
        None => Vec::new(),
        Some((namespace, group)) => {
            let of_group =
                v1::ListSubscriptionsRequest { namespace, group, inconsistent_only: true, local_only: false };
            subscription::find(admin, of_group).await?.groups
        }
    };
    show(output, &found.clients, &found.missing, &differ, Shape::One)?;
    Ok(subscription::warn(&differ)?)
}

/// Adds what was missing on a page; a proxy is named once.
fn note(missing: &mut Vec<v1::MissingProxy>, more: Vec<v1::MissingProxy>) {
    for proxy in more {
        if missing.iter().all(|known| known.proxy != proxy.proxy) {
            missing.push(proxy);
        }
    }
}

/// How clients are shown to people.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Shape {
    List,
    /// With every subscription.
    One,
}

/// Clients to stdout; whose clients are not among them to stderr, because the rest is still worth having.
fn show(
    output: &Output,
    clients: &[v1::Client],
    missing: &[v1::MissingProxy],
    differ: &[v1::GroupSubscriptions],
    shape: Shape,
) -> Result<(), CliError> {
    let differ: BTreeSet<(&str, &str)> = differ.iter().map(|group| (&*group.namespace, &*group.group)).collect();
    let headers = ["ID", "KIND", "GROUP", "TOPICS", "LANGUAGE", "VERSION", "ADDRESS", "LAST_HEARD", "CONNS", "PROXY"];
    let mut table = Table::with_wide(&headers, &["STREAMS", "INCONSISTENT"]);
    let mut subscriptions = Table::new(&["TOPIC", "FILTER", "EXPRESSION", "PROXY"]);
    let (mut documents, mut filters) = (Vec::new(), 0);
    for client in clients {
        let inconsistent = differ.contains(&(&*client.namespace, &*client.group));
        let wide = [client.streams.to_string(), inconsistent.to_string()];
        table.row(cells(client).into_iter().chain(wide));
        for one in &client.subscriptions {
            filters += 1;
            subscriptions.row(subscription::cells(one).into_iter().chain([plain(&client.proxy)]));
        }
        let mut shown = document(client);
        shown["inconsistent"] = inconsistent.into();
        documents.push(shown);
    }
    let mut document = json!({ "clients": documents });
    if !missing.is_empty() {
        let rows = missing.iter().map(|proxy| json!({ "proxy": proxy.proxy, "why": proxy.why }));
        document["missing"] = rows.collect();
    }
    match shape {
        Shape::One if filters > 0 => output.show_all(&document, &[("", &table), ("SUBSCRIPTIONS", &subscriptions)])?,
        Shape::One | Shape::List => output.show(&document, &table)?,
    }
    for v1::MissingProxy { proxy, why } in missing {
        let whose = if proxy.is_empty() { "other proxies".to_owned() } else { format!("proxy {}", plain(proxy)) };
        writeln!(io::stderr(), "warning: clients of {whose} are missing: {}", plain(why))?;
    }
    Ok(())
}

fn cells(client: &v1::Client) -> [String; 10] {
    let dash = |text: String| if text.is_empty() { "-".to_owned() } else { plain(&text) };
    let more = usize::try_from(client.topics_total).unwrap_or(usize::MAX).saturating_sub(client.topics.len());
    let more = if more > 0 { format!(",+{more}") } else { String::new() };
    [
        plain(&client.id),
        kind(client).to_owned(),
        dash(if client.group.is_empty() { String::new() } else { join(&client.namespace, &client.group) }),
        dash(client.topics.join(",") + &more),
        client.language.clone(),
        dash(client.version.clone()),
        dash(client.remote_address.clone()),
        client.last_heard.map(|heard| heard.to_string()).unwrap_or_default(),
        client.connections.to_string(),
        dash(client.proxy.clone()),
    ]
}

fn document(client: &v1::Client) -> Value {
    json!({
        "id": client.id,
        "proxy": client.proxy,
        "kind": kind(client),
        "namespace": client.namespace,
        "group": client.group,
        "topics": client.topics,
        "topics_total": client.topics_total,
        "language": client.language,
        "version": client.version,
        "remote_address": client.remote_address,
        "last_heard": client.last_heard.map(|heard| heard.to_string()),
        "connections": client.connections,
        "streams": client.streams,
        "subscriptions": client.subscriptions.iter().map(subscription::document).collect::<Vec<_>>(),
    })
}

fn kind(client: &v1::Client) -> &'static str {
    match client.kind() {
        v1::ClientKind::Unspecified => "unknown",
        v1::ClientKind::Producer => "producer",
        v1::ClientKind::PushConsumer => "push_consumer",
        v1::ClientKind::SimpleConsumer => "simple_consumer",
        v1::ClientKind::LitePushConsumer => "lite_push_consumer",
        v1::ClientKind::LiteSimpleConsumer => "lite_simple_consumer",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_and_a_group_are_of_one_namespace() {
        let ask = |group: &str, topic: &str| {
            let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
            wanted(given(group), given(topic), false).map(|ask| (ask.namespace, ask.group, ask.topic)).ok()
        };
        let words = |words: [&str; 3]| Some(words.map(str::to_owned).into());
        assert_eq!(ask("", ""), words(["", "", ""]));
        assert_eq!(ask("g", "t"), words(["", "g", "t"]));
        assert_eq!(ask("n/g", ""), words(["n", "g", ""]));
        assert_eq!(ask("", "n/t"), words(["n", "", "t"]));
        assert_eq!(ask("n/g", "t"), None);
    }
}
