//! One log event as one line of JSON.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use crate::identity::Identity;

/// The keys of the frame; a field of the same name gets a `_` behind it.
const FRAME: [&str; 7] = ["ts", "level", "target", "msg", "role", "node", "cluster"];

/// The format: a frame of fixed keys, then the fields by name, inner ones over outer ones.
pub(super) struct JsonLine {
    /// The part of the frame that never changes.
    who: String,
}

impl JsonLine {
    pub(super) fn new(identity: &Identity) -> JsonLine {
        let (role, node, cluster) = (text(identity.role), text(&identity.node), text(&identity.cluster));
        JsonLine { who: format!(r#""role":{role},"node":{node},"cluster":{cluster}"#) }
    }
}

impl<S> FormatEvent<S, JsonFields> for JsonLine
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(formatted) = span.extensions().get::<FormattedFields<JsonFields>>() {
                let outer: BTreeMap<String, Value> = serde_json::from_str(&formatted.fields).unwrap_or_default();
                outer.into_iter().for_each(|(name, value)| fields.put(&name, value));
            }
        }
        event.record(&mut fields);

        line.write_str(r#"{"ts":""#)?;
        SystemTime.format_time(&mut line)?;
        let (level, target) = (event.metadata().level(), text(event.metadata().target()));
        write!(line, r#"","level":"{level}","target":{target},"msg":{},{}"#, text(&fields.message), self.who)?;
        for (name, value) in &fields.others {
            write!(line, ",{}:{value}", text(name))?;
        }
        line.write_str("}\n")
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    others: BTreeMap<String, Value>,
}

impl Fields {
    fn put(&mut self, name: &str, value: Value) {
        let name = if FRAME.contains(&name) { format!("{name}_") } else { name.to_owned() };
        self.others.insert(name, value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else {
            self.put(field.name(), format!("{value:?}").into());
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message = value.to_owned();
        } else {
            self.put(field.name(), value.into());
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), value.into());
    }
}

/// A JSON string, quoted and escaped.
fn text(value: &str) -> Value {
    Value::from(value)
}
