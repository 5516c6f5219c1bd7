//! Which stored message is meant: by its id, or by its place.

use apogee_proto::admin::v1::QueueOffset;

#[derive(Debug, clap::Args)]
pub(crate) struct Which {
    /// Id of the message, as its sender knows it
    #[arg(required_unless_present = "offset", conflicts_with_all = ["queue", "offset"])]
    message_id: Option<String>,
    /// Queue of the message
    #[arg(long, requires = "offset")]
    queue: Option<u32>,
    /// Offset of the message in its queue
    #[arg(long, requires = "queue")]
    offset: Option<u64>,
}

impl Which {
    /// In the words of a request.
    pub(super) fn by<By>(self, id: impl FnOnce(String) -> By, place: impl FnOnce(QueueOffset) -> By) -> By {
        match self.message_id {
            Some(message_id) => id(message_id),
            None => place(QueueOffset { queue_id: self.queue, offset: self.offset.unwrap_or_default() }),
        }
    }
}
