//! The one subscriber of the process.

use std::io::{self, IsTerminal};

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use super::json::JsonLine;
use crate::exit::{Exit, ExitWith};
use crate::identity::Identity;

/// How log lines look.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// For people.
    Text,
    /// One object per line, for collectors.
    Json,
}

/// Where log lines go.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum LogSink {
    /// The servers' place.
    #[default]
    Stdout,
    /// For commands whose output is on standard output.
    Stderr,
}

/// What people choose about logs.
#[derive(Clone, Debug)]
pub struct LogSettings {
    pub format: LogFormat,
    pub sink: LogSink,
    /// A level, or directives such as `info,apogee_proxy=debug`. `RUST_LOG` replaces it.
    pub level: String,
}

impl Default for LogSettings {
    fn default() -> LogSettings {
        LogSettings { format: LogFormat::Auto, sink: LogSink::Stdout, level: "info".to_owned() }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    #[error("log level {level:?} is not valid")]
    Level {
        level: String,
        #[source]
        cause: ParseError,
    },
    #[error("logs were started before")]
    Started(#[source] TryInitError),
}

impl ExitWith for LogsError {
    fn exit(&self) -> Exit {
        match self {
            LogsError::Level { .. } => Exit::Usage,
            LogsError::Started(_) => Exit::Bug,
        }
    }
}

/// Starts the logs of this process. Call it once, before the first event.
///
/// A JSON line has the keys `ts` (RFC 3339, microseconds, UTC), `level`, `target`, `msg`, `role`, `node`, `cluster`,
/// then the fields of the spans around it and its own.
pub fn init_logs(settings: &LogSettings, identity: &Identity) -> Result<(), LogsError> {
    let level = std::env::var_os("RUST_LOG").and_then(|level| level.into_string().ok()).filter(|it| !it.is_empty());
    let filter = filter(level.as_deref().unwrap_or(&settings.level))?;
    let (writer, terminal) = match settings.sink {
        LogSink::Stdout => (BoxMakeWriter::new(io::stdout), io::stdout().is_terminal()),
        LogSink::Stderr => (BoxMakeWriter::new(io::stderr), io::stderr().is_terminal()),
    };
    let json = match settings.format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let started =
        if json { json_lines(filter, writer, identity).try_init() } else { text(filter, writer, terminal).try_init() };
    started.map_err(LogsError::Started)
}

fn filter(level: &str) -> Result<EnvFilter, LogsError> {
    let builder = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    builder.parse(level).map_err(|cause| LogsError::Level { level: level.to_owned(), cause })
}

fn text(filter: EnvFilter, writer: BoxMakeWriter, terminal: bool) -> impl Subscriber + Send + Sync + 'static {
    let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(colour).finish()
}

fn json_lines(
    filter: EnvFilter,
    writer: BoxMakeWriter,
    identity: &Identity,
) -> impl Subscriber + Send + Sync + 'static {
    let lines = JsonLine::new(identity);
    tracing_subscriber::fmt().json().with_env_filter(filter).with_writer(writer).event_format(lines).finish()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: &str, act: impl FnOnce()) -> Vec<Value> {
        let identity = Identity {
            cluster: "c1".to_owned(),
            role: "proxy",
            node_type: "proxy",
            node: "proxy-0".to_owned(),
            version: "1.2.3",
        };
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = json_lines(filter(level).unwrap(), BoxMakeWriter::new(move || writer.clone()), &identity);
        tracing::subscriber::with_default(subscriber, act);
        let bytes = lines.0.lock().unwrap();
        String::from_utf8_lossy(&bytes).lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    #[test]
    fn a_line_has_the_contract_keys_and_all_fields() {
        let lines = logged("info", || {
            let span = tracing::info_span!("send", topic = "orders", queue = 3);
            let _inside = span.enter();
            tracing::info!(event = "sent", queue = 4, node = "odd", ok = true, cause = ?"a\"b", "message sent\n");
            tracing::debug!("too quiet");
        });
        let [line] = lines.as_slice() else { panic!("one line expected: {lines:?}") };
        let mut line = line.clone();
        let ts = line["ts"].take().as_str().map(str::len);
        assert_eq!(ts, Some("2026-11-21T14:04:40.123456Z".len()));
        assert_eq!(
            line,
            json!({"ts": null, "level": "INFO", "target": "apogee_host::telemetry::logs::tests",
                "msg": "message sent\n", "role": "proxy", "node": "proxy-0", "cluster": "c1", "event": "sent",
                "topic": "orders", "queue": 4, "ok": true, "cause": "\"a\\\"b\"", "node_": "odd"})
        );
    }

    #[test]
    fn directives_choose_and_nonsense_is_refused() {
        assert!(logged("warn,apogee_host=error", || tracing::warn!("hidden")).is_empty());
        let error = filter("apogee_host=loud").map(|_| ()).unwrap_err();
        assert_eq!(error.exit(), Exit::Usage);
    }
}
