//! The whole state as text, the same for the same state however it came about: to compare replicas and restarts.

use std::ops::ControlFlow;

use super::State;

impl State {
    /// Every table in order, one line for each row, rows of the ConsumeQueue included. Long.
    pub(crate) fn dump(&self) -> Vec<String> {
        let mut lines = vec![format!("{:?}", self.position())];
        lines.extend(self.topics.iter().map(|(id, name)| format!("topic {id} {}/{}", name.namespace(), name.name())));
        lines.extend(self.groups.iter().map(|(id, name)| format!("group {id} {}/{}", name.namespace(), name.name())));
        self.dump_queues(&mut lines);
        self.dump_pops(&mut lines);
        self.offsets.dump(&mut lines);
        self.lites.dump(&mut lines);
        self.seals.dump(&mut lines);
        lines.extend(self.resend.all().map(|earlier| format!("{earlier:?}")));
        self.kept.dump(&self.reader, &mut lines);
        self.halves.dump(&self.reader, &mut lines);
        self.keys.dump(&self.reader, self.keys_floor(), &mut lines);
        lines
    }

    fn dump_queues(&self, lines: &mut Vec<String>) {
        for ((topic, queue), state) in &self.queues {
            let key = format!("queue {topic}/{queue}");
            match state.min < state.next {
                true => lines.push(format!("{key} {}..{} from {}", state.min, state.next, state.min_lsn.0)),
                false => lines.push(format!("{key} empty at {}", state.next)),
            }
            self.places(*topic, *queue, state.min, state.next, |offset, place| {
                lines.push(format!("{key} {offset} {place:?}"));
                ControlFlow::Continue(())
            });
        }
    }

    fn dump_pops(&self, lines: &mut Vec<String>) {
        for ((group, topic), pop) in self.pops.iter() {
            lines.push(format!("pop {group}/{topic} open {}", pop.open));
            for (queue, state) in &pop.queues {
                lines.push(format!("pop {group}/{topic}/{queue} cursor {}", state.cursor));
                let entry = |(offset, entry)| format!("pop {group}/{topic}/{queue} {offset} {entry:?}");
                lines.extend(state.entries.iter().map(entry));
            }
        }
    }
}
