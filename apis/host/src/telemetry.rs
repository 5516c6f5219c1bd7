//! What a process tells about itself: logs on standard output, metrics on request.

mod json;
mod logs;
mod metrics;

pub use logs::{LogFormat, LogSettings, LogSink, LogsError, init_logs};
pub use metrics::{Metrics, MetricsError};
