//! Counts what the stores report, so that a path of theirs that no seed takes any more is noticed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

/// Whose reports count.
const TARGET: &str = "apogee_engine";

/// How often each event was reported.
pub(crate) type Reports = BTreeMap<String, u64>;

thread_local! {
    static SEEN: RefCell<Reports> = RefCell::default();
}

/// Listens to all threads; a seed runs in one.
pub(crate) struct Witness;

impl Witness {
    /// What the calling thread reported since the last call.
    pub(crate) fn take() -> Reports {
        SEEN.take()
    }
}

impl Subscriber for Witness {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= Level::INFO && metadata.target().starts_with(TARGET)
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Name);
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

/// Looks for the name of an event among its fields.
struct Name;

impl Visit for Name {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "event" {
            SEEN.with_borrow_mut(|seen| *seen.entry(value.to_owned()).or_default() += 1);
        }
    }

    fn record_debug(&mut self, _field: &Field, _value: &dyn fmt::Debug) {}
}
