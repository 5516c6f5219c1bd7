//! Removes segments that nobody needs, oldest first, each durably before the next: whatever happens in between, what is
//! left is the end of the log without a gap.

use std::io;
use std::sync::Arc;

use apogee_host::Disk;
use futures::future::{BoxFuture, FutureExt as _};

use super::{Log, segment_name};
use crate::metrics::Metrics;

/// Removes what `log` has doomed, in time; `None` when that is nothing. What cannot be removed is tried again later:
/// it costs room, nothing else.
pub(super) fn doomed(disk: &Arc<dyn Disk>, log: &Log, metrics: &Arc<Metrics>) -> Option<BoxFuture<'static, ()>> {
    let mut doomed = log.take_doomed();
    if doomed.is_empty() {
        return None;
    }
    let (disk, log, metrics) = (Arc::clone(disk), log.clone(), Arc::clone(metrics));
    let work = async move {
        while let Some((start, file)) = doomed.front_mut() {
            let name = segment_name(*start);
            if let Some(file) = file.take()
                && let Err(error) = disk.close(file).await
            {
                tracing::warn!(event = "segment_not_closed", name, %error, "a segment that goes cannot be closed");
            }
            match disk.remove(&name).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(event = "segment_not_removed", name, %error, "a segment cannot be removed yet");
                    return log.put_back(doomed);
                }
                Ok(()) | Err(_) => {
                    tracing::info!(event = "segment_removed", name, "no message and no base needs this segment");
                    metrics.segment_removed();
                }
            }
            doomed.pop_front();
        }
    };
    Some(work.boxed())
}
