//! Configuration in layers: flag over environment over file over default, and where each value came from.

mod secret;
mod tree;
mod units;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use secret::Secret;
pub use units::{ByteSize, HumanDuration, UnitError};

use self::tree::Overrides;
use crate::exit::{Exit, ExitWith};

/// What environment variables of ours begin with.
const PREFIX: &str = "APOGEE_";

/// The layer a value came from.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    Default,
    File,
    Env,
    Flag,
}

/// A configuration that cannot be used; fix it, a restart does not help.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{path} cannot be read")]
    Unreadable {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("{path} is not TOML")]
    NotToml {
        path: PathBuf,
        #[source]
        cause: Box<toml::de::Error>,
    },
    #[error("unknown key {key} ({origin}){}", did_you_mean(nearest.as_deref()))]
    UnknownKey { key: String, origin: Origin, nearest: Option<String> },
    #[error("key {key} ({origin}) has no valid value")]
    InvalidValue {
        key: String,
        origin: Origin,
        #[source]
        cause: serde_json::Error,
    },
    #[error("the values contradict each other")]
    Inconsistent(#[source] serde_json::Error),
}

/// A configuration and the story of its values.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    pub config: T,
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    key: String,
    value: Value,
    origin: Origin,
}

/// The environment of this process; what is not Unicode is left out.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Reads all layers and merges them: flag over environment over file over `T::default()`.
///
/// Keys are what `T` serializes to, dotted: `grpc.max_connection_age`. A variable is `APOGEE_` and the key in capitals
/// with `__` for the dot; its value is taken as it is where the default is text, and as a TOML value elsewhere (text
/// if it is none). `<key>_file`, in the file or the environment, names a file that holds the value of `<key>`.
/// `env` may be the whole environment; names in `ignored` belong to somebody else although they begin with `APOGEE_`.
/// A map or an unset optional in `T::default()` accepts every key below it.
///
/// # Errors
/// The first [`ConfigError`], in the order file, environment, flags.
pub fn load<T: DeserializeOwned + Serialize + Default>(
    file: Option<&Path>,
    env: impl Iterator<Item = (String, String)>,
    flags: toml::Table,
    ignored: &[&str],
) -> Result<Loaded<T>, ConfigError> {
    let defaults = to_json(&T::default());
    let mut overrides = Overrides::new(&defaults);
    if let Some(path) = file {
        overrides.add_table(parse_file(path)?, Origin::File)?;
    }
    for (name, text) in env {
        if let Some(key) = name.strip_prefix(PREFIX).filter(|_| !ignored.contains(&name.as_str())) {
            overrides.add_text(&key.to_lowercase().replace("__", "."), text)?;
        }
    }
    overrides.add_table(flags, Origin::Flag)?;

    let config: T = overrides.parse()?;
    let entries = tree::leaves(&to_json(&config))
        .into_iter()
        .map(|(key, value)| Entry { origin: overrides.origin(&key), key, value })
        .collect();
    Ok(Loaded { config, entries })
}

impl<T> Loaded<T> {
    /// One line per effective value, as TOML, with its origin behind it. Secrets are `***`.
    pub fn print(&self) -> String {
        self.entries.iter().map(|entry| format!("{entry}\n")).collect()
    }

    /// Where the value of `key` came from; [`Origin::Default`] for a key that does not exist.
    pub fn origin(&self, key: &str) -> Origin {
        self.entries.iter().find(|entry| entry.key == key).map_or(Origin::Default, |entry| entry.origin)
    }
}

impl ExitWith for ConfigError {
    fn exit(&self) -> Exit {
        match self {
            ConfigError::Unreadable { cause, .. } if cause.kind() == io::ErrorKind::PermissionDenied => {
                Exit::Permission
            }
            _ => Exit::Usage,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::Default => "default",
            Origin::File => "file",
            Origin::Env => "env",
            Origin::Flag => "flag",
        })
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Entry { key, value, origin } = self;
        match toml::Value::try_from(value) {
            Ok(value) => write!(f, "{key} = {value} # {origin}"),
            Err(_) => write!(f, "# {key} is not set # {origin}"), // TOML has no null
        }
    }
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map(|key| format!(", the nearest valid key is {key}")).unwrap_or_default()
}

fn parse_file(path: &Path) -> Result<toml::Table, ConfigError> {
    let text = read_file(path)?;
    toml::from_str(&text).map_err(|cause| ConfigError::NotToml { path: path.to_owned(), cause: Box::new(cause) })
}

fn read_file(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|cause| ConfigError::Unreadable { path: path.to_owned(), cause })
}

fn to_json(config: &impl Serialize) -> Value {
    serde_json::to_value(config).expect("a config struct has text keys and plain values")
}

#[cfg(test)]
mod tests;
