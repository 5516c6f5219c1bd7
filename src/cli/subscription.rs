//! What consumers subscribe to, as several nouns show it, and the warning when those of a group differ.

use std::io::{self, Write as _};

use apogee_proto::admin::v1;
use serde_json::{Value, json};

use super::error::CliError;
use super::output::{Table, plain};
use super::target::Admin;
use super::topic::join;

/// What the consumers of groups subscribe to: of one group, or of all those whose consumers differ.
pub(super) async fn find(
    admin: &mut Admin,
    ask: v1::ListSubscriptionsRequest,
) -> Result<v1::ListSubscriptionsResponse, CliError> {
    let answer = admin.api.list_subscriptions(ask).await;
    Ok(answer.map_err(|status| CliError::call(&admin.address, status))?.into_inner())
}

pub(super) fn document(one: &v1::Subscription) -> Value {
    json!({ "topic": one.topic, "filter": kind(one), "expression": one.expression })
}

/// Each set of a group, with how many subscribe to it.
pub(super) fn documents(sets: &[v1::SubscriptionSet]) -> Value {
    let set = |set: &v1::SubscriptionSet| {
        json!({
            "members": set.members,
            "clients": set.clients,
            "subscriptions": set.subscriptions.iter().map(document).collect::<Vec<_>>(),
        })
    };
    sets.iter().map(set).collect()
}

/// One line for each subscription of each set.
pub(super) fn table(sets: &[v1::SubscriptionSet]) -> Table {
    let mut table = Table::new(&["MEMBERS", "TOPIC", "FILTER", "EXPRESSION", "CLIENTS"]);
    for set in sets {
        let more = usize::try_from(set.members).unwrap_or(usize::MAX).saturating_sub(set.clients.len());
        let more = if more > 0 { format!(",+{more}") } else { String::new() };
        let clients = set.clients.iter().map(|id| plain(id)).collect::<Vec<_>>().join(",") + &more;
        for one in &set.subscriptions {
            let [topic, kind, expression] = cells(one);
            table.row([set.members.to_string(), topic, kind, expression, clients.clone()]);
        }
    }
    table
}

pub(super) fn cells(one: &v1::Subscription) -> [String; 3] {
    [plain(&one.topic), kind(one).to_owned(), plain(&one.expression)]
}

/// To stderr, because what was asked for is still worth having.
pub(super) fn warn(groups: &[v1::GroupSubscriptions]) -> io::Result<()> {
    for group in groups.iter().filter(|group| group.sets.len() > 1) {
        let name = plain(&join(&group.namespace, &group.group));
        writeln!(
            io::stderr(),
            "warning: consumers of group {name} subscribe to different things, so messages are passed over; see `apogee group describe {name}`"
        )?;
    }
    Ok(())
}

fn kind(one: &v1::Subscription) -> &'static str {
    match one.kind() {
        v1::FilterKind::Unspecified => "unknown",
        v1::FilterKind::Tag => "tag",
        v1::FilterKind::Sql92 => "sql92",
    }
}
