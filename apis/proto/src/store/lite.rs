//! Lite topics.

use std::time::Duration;

use apogee_model::store::{
    LiteChange, LiteGroupStatus, LiteList, LiteStart, LiteStatus, LiteSubscribed, LiteSubscription, LiteTerms,
};
use apogee_model::{ClientId, GroupId, QueueOffset, Timestamp, TopicId};

use super::v1::lite_subscribe_ask::From as Start;
use super::v1::lite_subscribed::Outcome;
use super::{Malformed, as_millis, required, v1};

impl From<&LiteSubscription> for v1::LiteSubscribeAsk {
    fn from(it: &LiteSubscription) -> Self {
        let change = match it.change {
            LiteChange::Add => v1::LiteChange::Add,
            LiteChange::Remove => v1::LiteChange::Remove,
            LiteChange::Complete => v1::LiteChange::Complete,
            LiteChange::RemoveAll => v1::LiteChange::RemoveAll,
        };
        let from = match it.from {
            LiteStart::Last => None,
            LiteStart::Earliest => Some(Start::Earliest(v1::Done {})),
            LiteStart::Latest => Some(Start::Latest(v1::Done {})),
            LiteStart::At(offset) => Some(Start::Offset(offset.0)),
            LiteStart::Tail(count) => Some(Start::Tail(count)),
            LiteStart::Time(at) => Some(Start::TimeMs(at.0)),
        };
        let LiteTerms { exclusive, reset_on_takeover, reset_on_unsubscribe, client_max, expiration } = it.terms;
        Self {
            group: Some((&it.group).into()),
            topic: Some((&it.topic).into()),
            client: it.client.as_str().to_owned(),
            change: change.into(),
            names: it.names.iter().map(|name| name.to_string()).collect(),
            from,
            exclusive,
            reset_on_takeover,
            reset_on_unsubscribe,
            client_max: u64::try_from(client_max).unwrap_or(u64::MAX),
            expiration_ms: expiration.map(as_millis),
        }
    }
}

impl TryFrom<v1::LiteSubscribeAsk> for LiteSubscription {
    type Error = Malformed;

    fn try_from(ask: v1::LiteSubscribeAsk) -> Result<Self, Malformed> {
        let change = match ask.change() {
            v1::LiteChange::Add => LiteChange::Add,
            v1::LiteChange::Remove => LiteChange::Remove,
            v1::LiteChange::Complete => LiteChange::Complete,
            v1::LiteChange::RemoveAll => LiteChange::RemoveAll,
            v1::LiteChange::Unspecified => return Err(Malformed { what: "how subscriptions change" }),
        };
        let from = match ask.from {
            None => LiteStart::Last,
            Some(Start::Earliest(_)) => LiteStart::Earliest,
            Some(Start::Latest(_)) => LiteStart::Latest,
            Some(Start::Offset(offset)) => LiteStart::At(QueueOffset(offset)),
            Some(Start::Tail(count)) => LiteStart::Tail(count),
            Some(Start::TimeMs(at)) => LiteStart::Time(Timestamp(at)),
        };
        Ok(Self {
            group: required(ask.group, "the group")?.try_into()?,
            topic: required(ask.topic, "the topic")?.try_into()?,
            client: client(&ask.client)?,
            change,
            names: ask.names.into_iter().map(Into::into).collect(),
            from,
            terms: LiteTerms {
                exclusive: ask.exclusive,
                reset_on_takeover: ask.reset_on_takeover,
                reset_on_unsubscribe: ask.reset_on_unsubscribe,
                client_max: usize::try_from(ask.client_max).unwrap_or(usize::MAX),
                expiration: ask.expiration_ms.map(Duration::from_millis),
            },
        })
    }
}

impl From<LiteSubscribed> for v1::LiteSubscribed {
    fn from(done: LiteSubscribed) -> Self {
        let wide = |max: usize| u64::try_from(max).unwrap_or(u64::MAX);
        let outcome = match done {
            LiteSubscribed::Done => Outcome::Done(v1::Done {}),
            LiteSubscribed::TooManySubscriptions { max } => Outcome::SubscriptionsMax(wide(max)),
            LiteSubscribed::TooManyTopics { max } => Outcome::TopicsMax(wide(max)),
        };
        Self { outcome: Some(outcome) }
    }
}

impl TryFrom<v1::LiteSubscribed> for LiteSubscribed {
    type Error = Malformed;

    fn try_from(done: v1::LiteSubscribed) -> Result<Self, Malformed> {
        let narrow = |max: u64| usize::try_from(max).unwrap_or(usize::MAX);
        Ok(match required(done.outcome, "what became of subscriptions")? {
            Outcome::Done(_) => Self::Done,
            Outcome::SubscriptionsMax(max) => Self::TooManySubscriptions { max: narrow(max) },
            Outcome::TopicsMax(max) => Self::TooManyTopics { max: narrow(max) },
        })
    }
}

impl From<&LiteList> for v1::LiteListAsk {
    fn from(list: &LiteList) -> Self {
        Self {
            topic: list.topic.0,
            after: list.after.as_deref().map(str::to_owned),
            only: list.only.as_deref().map(str::to_owned),
            max: u32::try_from(list.max).unwrap_or(u32::MAX),
        }
    }
}

impl From<v1::LiteListAsk> for LiteList {
    fn from(ask: v1::LiteListAsk) -> Self {
        Self {
            topic: TopicId(ask.topic),
            after: ask.after.map(Into::into),
            only: ask.only.map(Into::into),
            max: usize::try_from(ask.max).unwrap_or(usize::MAX),
        }
    }
}

impl v1::LiteStatuses {
    pub fn of(topics: &[LiteStatus]) -> Self {
        let group = |it: &LiteGroupStatus| v1::LiteGroupStatus {
            group: it.group.0,
            floor: it.floor.0,
            in_flight: it.in_flight,
            clients: it.clients.iter().map(|client| client.as_str().to_owned()).collect(),
        };
        let row = |it: &LiteStatus| v1::LiteStatus {
            name: it.name.to_string(),
            id: it.id.0,
            min: it.min.0,
            max: it.max.0,
            written_ms: it.written.0,
            groups: it.groups.iter().map(group).collect(),
        };
        Self { topics: topics.iter().map(row).collect() }
    }

    /// What [`v1::LiteStatuses::of`] was made of.
    ///
    /// # Errors
    /// [`Malformed`] for a client that cannot be.
    pub fn into_statuses(self) -> Result<Vec<LiteStatus>, Malformed> {
        let group = |it: v1::LiteGroupStatus| {
            let clients = it.clients.iter().map(|id| client(id)).collect::<Result<_, _>>()?;
            let (group, floor, in_flight) = (GroupId(it.group), QueueOffset(it.floor), it.in_flight);
            Ok(LiteGroupStatus { group, floor, in_flight, clients })
        };
        let row = |it: v1::LiteStatus| {
            Ok(LiteStatus {
                name: it.name.into(),
                id: TopicId(it.id),
                min: QueueOffset(it.min),
                max: QueueOffset(it.max),
                written: Timestamp(it.written_ms),
                groups: it.groups.into_iter().map(group).collect::<Result<_, _>>()?,
            })
        };
        self.topics.into_iter().map(row).collect()
    }
}

fn client(id: &str) -> Result<ClientId, Malformed> {
    required(ClientId::parse(id), "the client")
}
