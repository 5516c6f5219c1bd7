//! Stored messages on the wire.

use apogee_model::StoredMessage;
use apogee_proto::v2;
use prost::{DecodeError, Message as _};

/// What is stored, and what `complete` makes of the system properties that are.
///
/// # Errors
/// A proxy wrote it, so something is damaged.
pub(super) fn message(
    stored: StoredMessage,
    complete: impl FnOnce(v2::SystemProperties) -> v2::SystemProperties,
) -> Result<v2::Message, DecodeError> {
    let message = v2::Message::decode(stored.body_part)?;
    let properties = v2::SystemProperties::decode(stored.properties_part)?;
    Ok(v2::Message { system_properties: Some(complete(properties)), ..message })
}
