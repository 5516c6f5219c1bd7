//! Topics, groups, clients and filters.

use std::sync::Arc;
use std::time::Duration;

use apogee_model::store::{GroupRef, TopicRef};
use apogee_model::{ClientId, ConsumerGroup, Filter, GroupId, TagFilter, Topic, TopicId};

use super::{Malformed, narrow, required, v1};

impl From<&Topic> for v1::Topic {
    fn from(topic: &Topic) -> Self {
        Self { namespace: topic.namespace().to_owned(), name: topic.name().to_owned() }
    }
}

impl TryFrom<v1::Topic> for Topic {
    type Error = Malformed;

    fn try_from(topic: v1::Topic) -> Result<Self, Malformed> {
        Topic::parse(&topic.namespace, &topic.name).map_err(|_| Malformed { what: "the name of a topic" })
    }
}

impl From<&TopicRef> for v1::TopicRef {
    fn from(topic: &TopicRef) -> Self {
        Self { id: topic.id.0, topic: Some((&topic.name).into()), queues: topic.queues.into() }
    }
}

impl TryFrom<v1::TopicRef> for TopicRef {
    type Error = Malformed;

    fn try_from(topic: v1::TopicRef) -> Result<Self, Malformed> {
        let name = required(topic.topic, "the name of a topic")?.try_into()?;
        Ok(Self { id: TopicId(topic.id), name, queues: narrow(topic.queues, "the number of queues")? })
    }
}

impl From<&GroupRef> for v1::GroupRef {
    fn from(group: &GroupRef) -> Self {
        let (namespace, name) = (group.name.namespace().to_owned(), group.name.name().to_owned());
        Self { id: group.id.0, namespace, name }
    }
}

impl TryFrom<v1::GroupRef> for GroupRef {
    type Error = Malformed;

    fn try_from(group: v1::GroupRef) -> Result<Self, Malformed> {
        let name = ConsumerGroup::parse(&group.namespace, &group.name);
        let name = name.map_err(|_| Malformed { what: "the name of a consumer group" })?;
        Ok(Self { id: GroupId(group.id), name })
    }
}

impl v1::Filter {
    /// `None` for a filter that wants everything.
    pub fn of(filter: &Filter) -> Option<Self> {
        match filter {
            Filter::Tags(TagFilter::All) => None,
            Filter::Tags(TagFilter::AnyOf(tags)) => Some(Self { tags: tags.iter().cloned().collect(), sql: None }),
            Filter::Sql(sql) => Some(Self { tags: Vec::new(), sql: Some(sql.text().to_owned()) }),
        }
    }

    /// What [`v1::Filter::of`] was made of.
    ///
    /// # Errors
    /// [`Malformed`] for an expression that does not compile.
    pub fn into_filter(filter: Option<Self>) -> Result<Filter, Malformed> {
        Ok(match filter {
            None => Filter::default(),
            Some(Self { sql: Some(sql), .. }) => Filter::sql(&sql).map_err(|_| Malformed { what: "the filter" })?,
            Some(Self { tags, sql: None }) => TagFilter::AnyOf(Arc::new(tags.into_iter().collect())).into(),
        })
    }
}

impl v1::Clients {
    pub fn of<'a>(clients: impl IntoIterator<Item = &'a ClientId>) -> Self {
        Self { ids: clients.into_iter().map(|client| client.as_str().to_owned()).collect(), ago_ms: Vec::new() }
    }

    /// Clients, and how long ago each was heard.
    pub fn heard<'a>(clients: impl IntoIterator<Item = (&'a ClientId, Duration)>) -> Self {
        let millis = |ago: Duration| u32::try_from(ago.as_millis()).unwrap_or(u32::MAX);
        let (ids, ago_ms) = clients.into_iter().map(|(client, ago)| (client.as_str().to_owned(), millis(ago))).unzip();
        Self { ids, ago_ms }
    }

    /// What [`v1::Clients::heard`] was made of; one without a time was heard now.
    pub fn into_heard(self) -> Vec<(ClientId, Duration)> {
        let ago = self.ago_ms.into_iter().map(|ago| Duration::from_millis(ago.into()));
        let timed = self.ids.iter().zip(ago.chain(std::iter::repeat(Duration::ZERO)));
        timed.filter_map(|(id, ago)| Some((ClientId::parse(id)?, ago))).collect()
    }

    /// Blank ids are left out: nobody is called that.
    pub fn into_clients(self) -> Vec<ClientId> {
        self.ids.iter().filter_map(|id| ClientId::parse(id)).collect()
    }
}
