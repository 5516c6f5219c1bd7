//! Waiting for something to tell whoever leads, for as long as that is the same one.

use apogee_proto::store::v1::lane_request::Ask;
use tokio::sync::Notify;

/// Another one reigns by now.
pub(super) struct Over;

/// The next thing to tell, as soon as `look` has one; `None` once another reigns. `stirred` says that there may be
/// something. Cancel safe.
pub(super) async fn next_word(stirred: &Notify, look: impl Fn() -> Result<Option<Ask>, Over>) -> Option<Ask> {
    loop {
        let stir = stirred.notified();
        match look() {
            Ok(Some(ask)) => return Some(ask),
            Ok(None) => stir.await,
            Err(Over) => {
                stirred.notify_one(); // it may have been meant for the one who reigns
                return None;
            }
        }
    }
}
