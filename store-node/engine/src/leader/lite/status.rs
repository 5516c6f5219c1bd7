//! What operators see of lite topics.

use std::collections::BTreeMap;

use apogee_model::store::{LiteGroupStatus, LiteList, LiteStatus};
use apogee_model::{ClientId, GroupId, TopicId};

use crate::leader::Leader;
use crate::state::LITE_QUEUE;

/// Lite topics of one answer.
const LIST_MAX: usize = 1000;

impl Leader {
    pub(in crate::leader) fn lite_list(&self, ask: &LiteList) -> Vec<LiteStatus> {
        if let Some(only) = &ask.only {
            return self.state.lite(ask.topic, only).and_then(|id| self.lite_status(id)).into_iter().collect();
        }
        let all = self.state.lites_of(ask.topic, ask.after.as_deref());
        all.take(ask.max.clamp(1, LIST_MAX)).filter_map(|(_, id)| self.lite_status(id)).collect()
    }

    fn lite_status(&self, id: TopicId) -> Option<LiteStatus> {
        let (name, written) = self.state.lite_name(id)?;
        let queue = self.state.queue(id, LITE_QUEUE);
        let mut groups: BTreeMap<GroupId, LiteGroupStatus> = BTreeMap::new();
        for (group, pop) in self.state.pops.of_topic(id) {
            let pop = pop.queues.get(&LITE_QUEUE);
            let floor = pop.map_or(queue.min, |pop| pop.floor().max(queue.min));
            let in_flight = pop.map_or(0, |pop| pop.entries.values().filter(|entry| !entry.is_waiting()).count());
            let in_flight = u64::try_from(in_flight).unwrap_or(u64::MAX);
            groups.insert(group, LiteGroupStatus { group, floor, in_flight, clients: Vec::new() });
        }
        for of in self.state.lite_subscribers(id) {
            let client = self.state.lite_client(of).and_then(|client| ClientId::parse(&client.id));
            if let (Some(status), Some(client)) = (groups.get_mut(&of.0), client) {
                status.clients.push(client);
            }
        }
        let (name, groups) = ((**name).into(), groups.into_values().collect());
        Some(LiteStatus { name, id, min: queue.min, max: queue.next, written, groups })
    }
}
