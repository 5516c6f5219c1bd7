//! How a consumer group reads lite topics.

use apogee_proto::admin::v1;
use clap::ValueEnum;
use serde_json::{Value, json};

/// Flags of a group that reads lite topics.
#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    /// Reads lite topics of this topic, each client those that it subscribes to, and nothing else
    #[arg(long, value_name = "TOPIC")]
    lite_topic: Option<String>,
    /// Whether clients share a lite topic
    #[arg(long, value_enum, default_value_t = Model::Shared, requires = "lite_topic")]
    lite_model: Model,
    /// Lite topics of one client
    #[arg(long, default_value_t = 2000, requires = "lite_topic", value_parser = clap::value_parser!(u32).range(1..))]
    lite_client_quota: u32,
    /// Who takes a lite topic over begins at its first message
    #[arg(long, requires = "lite_topic")]
    lite_reset_on_takeover: bool,
    /// When the last client leaves a lite topic, the group is back at its first message
    #[arg(long, requires = "lite_topic")]
    lite_reset_on_unsubscribe: bool,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
enum Model {
    /// Several clients may be subscribed to one; each message goes to one of them
    Shared,
    /// One client at a time: the newest takes it over from the others
    Exclusive,
}

impl Flags {
    pub(super) fn wire(self) -> Option<v1::LiteGroup> {
        let topic = self.lite_topic?;
        Some(v1::LiteGroup {
            topic,
            exclusive: self.lite_model == Model::Exclusive,
            client_max: self.lite_client_quota,
            reset_on_takeover: self.lite_reset_on_takeover,
            reset_on_unsubscribe: self.lite_reset_on_unsubscribe,
        })
    }
}

pub(super) fn document(lite: &v1::LiteGroup) -> Value {
    json!({
        "topic": lite.topic,
        "model": if lite.exclusive { "exclusive" } else { "shared" },
        "client_quota": lite.client_max,
        "reset_on_takeover": lite.reset_on_takeover,
        "reset_on_unsubscribe": lite.reset_on_unsubscribe,
    })
}
