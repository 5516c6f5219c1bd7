//! Transactions that nobody has ended, and ending them by hand.

use apogee_model::store::{EndTransaction, HalfId, OpenTransaction, Resolution, TransactionEnded};
use apogee_model::{MacKeys, ReplicaGroupId, Topic, TopicId, TransactionId};
use apogee_proto::admin::v1;
use apogee_proto::v2;
use prost::Message as _;

use super::convert::time;
use super::error::AdminError;
use super::{Admin, known_topic, page};

impl Admin {
    pub(super) async fn do_list_transactions(
        &self,
        ask: v1::ListTransactionsRequest,
    ) -> Result<v1::ListTransactionsResponse, AdminError> {
        let size = page::size(ask.page_size)?;
        let cluster = self.routes.cluster();
        let topic = known_topic(&cluster, Topic::parse(&ask.namespace, &ask.topic)?)?;
        let mut place = Place::read(&ask.page_token)?;
        let mut transactions = Vec::new();
        for group in topic.replica_groups().range(place.group..) {
            place = Place { from: if *group == place.group { place.from } else { HalfId(0) }, group: *group };
            let store = self.stores.of(*group)?;
            loop {
                let left = size - transactions.len();
                if left == 0 {
                    return Ok(v1::ListTransactionsResponse { transactions, next_page_token: place.token() });
                }
                let some = store.transactions(topic.id, place.from, left).await?;
                let Some(last) = some.last() else { break };
                place.from = HalfId(last.id.0 + 1);
                transactions.extend(some.into_iter().map(|open| shown(*group, topic.id, open, &cluster.mac_keys)));
            }
        }
        Ok(v1::ListTransactionsResponse { transactions, next_page_token: String::new() })
    }

    pub(super) async fn do_end_transaction(
        &self,
        ask: v1::EndTransactionRequest,
    ) -> Result<v1::EndTransactionResponse, AdminError> {
        let cluster = self.routes.cluster();
        let topic = known_topic(&cluster, Topic::parse(&ask.namespace, &ask.topic)?)?;
        let resolution = resolution(ask.resolution)?;
        let id = TransactionId::verify(&ask.transaction_id, &cluster.mac_keys);
        let id = id.map_err(|error| AdminError::TransactionId { problem: error.to_string() })?;
        if id.topic != topic.id {
            let problem = format!("transaction id is not for topic {}", topic.topic);
            return Err(AdminError::TransactionId { problem });
        }
        let TransactionId { replica_group, topic: of, half: id, message_id } = id;
        let ended =
            self.stores.of(replica_group)?.end_transaction(EndTransaction { topic: of, id, resolution }).await?;
        match ended {
            TransactionEnded::Done => {
                let topic = &topic.topic;
                tracing::info!(event = "transaction_ended", %topic, message_id, ?resolution, "an operator ended a transaction");
                Ok(v1::EndTransactionResponse { message_id })
            }
            TransactionEnded::Otherwise => Err(AdminError::EndedOtherwise { message_id, asked: resolution }),
            TransactionEnded::Unknown => Err(AdminError::NoSuchTransaction { message_id }),
        }
    }
}

fn resolution(given: i32) -> Result<Resolution, AdminError> {
    match v1::TransactionResolution::try_from(given) {
        Ok(v1::TransactionResolution::Commit) => Ok(Resolution::Commit),
        Ok(v1::TransactionResolution::Rollback) => Ok(Resolution::Rollback),
        Ok(v1::TransactionResolution::Unspecified) | Err(_) => {
            Err(AdminError::Choice { field: "resolution", given, allowed: "COMMIT, ROLLBACK" })
        }
    }
}

/// What of its properties cannot be read is left out: the transaction can be ended all the same.
fn shown(replica_group: ReplicaGroupId, topic: TopicId, open: OpenTransaction, keys: &MacKeys) -> v1::Transaction {
    let OpenTransaction { queue, id, checks, parked, stored_at, message } = open;
    let system = v2::SystemProperties::decode(message.properties_part).unwrap_or_default();
    let id = TransactionId { replica_group, topic, half: id, message_id: system.message_id.clone() };
    v1::Transaction {
        id: id.sign(keys),
        message_id: system.message_id,
        queue_id: queue.0.into(),
        checks,
        parked,
        stored: Some(time(stored_at)),
        tag: system.tag,
        keys: system.keys,
    }
}

/// Where a page begins: the token is `replica group/half message`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Place {
    group: ReplicaGroupId,
    from: HalfId,
}

impl Place {
    fn read(token: &str) -> Result<Self, AdminError> {
        if token.is_empty() {
            return Ok(Self { group: ReplicaGroupId(0), from: HalfId(0) });
        }
        let place = token.split_once('/').and_then(|(group, from)| {
            Some(Self { group: ReplicaGroupId(group.parse().ok()?), from: HalfId(from.parse().ok()?) })
        });
        place.ok_or_else(|| AdminError::PageToken { token: token.chars().take(300).collect() })
    }

    fn token(self) -> String {
        format!("{}/{}", self.group.0, self.from.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_where_the_next_page_begins() {
        let place = Place { group: ReplicaGroupId(3), from: HalfId(u64::MAX) };
        assert_eq!(Place::read(&place.token()).expect("ours"), place);
        assert_eq!(Place::read("").expect("the first page").from, HalfId(0));
        for token in ["x", "1", "1/", "/1", "-1/2", "1/2/3", "4294967296/1"] {
            assert!(matches!(Place::read(token), Err(AdminError::PageToken { .. })), "{token}");
        }
    }
}
