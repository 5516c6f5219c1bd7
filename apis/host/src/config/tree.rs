//! Values by dotted key: which keys exist, what overrides them, and what the whole is.

use std::collections::BTreeMap;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{ConfigError, Origin, read_file};

/// Suffix of a key that names a file with the value.
const FILE_SUFFIX: &str = "_file";

/// The values that replace defaults, the strongest layer only.
pub(super) struct Overrides<'a> {
    defaults: &'a Value,
    values: BTreeMap<String, (Value, Origin)>,
}

impl<'a> Overrides<'a> {
    pub(super) fn new(defaults: &'a Value) -> Overrides<'a> {
        Overrides { defaults, values: BTreeMap::new() }
    }

    /// Adds what a file or flags say.
    pub(super) fn add_table(&mut self, table: toml::Table, origin: Origin) -> Result<(), ConfigError> {
        for (key, value) in leaves(&to_json(table.into())) {
            self.add(&key, value, origin)?;
        }
        Ok(())
    }

    /// Adds what a variable says.
    pub(super) fn add_text(&mut self, key: &str, text: String) -> Result<(), ConfigError> {
        let value = match find(self.defaults, key) {
            Some(Value::String(_)) => Value::String(text),
            _ => scalar(text),
        };
        self.add(key, value, Origin::Env)
    }

    fn add(&mut self, key: &str, value: Value, origin: Origin) -> Result<(), ConfigError> {
        if find(self.defaults, key).is_some() {
            self.values.insert(key.to_owned(), (value, origin));
            return Ok(());
        }
        let target = key.strip_suffix(FILE_SUFFIX).filter(|target| find(self.defaults, target).is_some());
        let (Some(target), Value::String(path)) = (target, &value) else {
            return Err(ConfigError::UnknownKey { key: key.to_owned(), origin, nearest: nearest(self.defaults, key) });
        };
        let content = read_file(Path::new(path))?;
        self.values.insert(target.to_owned(), (Value::String(content.trim_end().to_owned()), origin));
        Ok(())
    }

    /// The layer that decided about `key`, or about something in it or around it.
    pub(super) fn origin(&self, key: &str) -> Origin {
        let related = |other: &str| other == key || is_below(other, key) || is_below(key, other);
        let origins = self.values.iter().filter(|(other, _)| related(other)).map(|(_, (_, origin))| *origin);
        origins.max().unwrap_or(Origin::Default)
    }

    /// The whole as `T`. When it is refused, each value is tried alone, to name the one to blame.
    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        let merged = self.values.iter().fold(self.defaults.clone(), |tree, (key, (value, _))| set(tree, key, value));
        let together = match serde_json::from_value(merged) {
            Ok(config) => return Ok(config),
            Err(cause) => cause,
        };
        for (key, (value, origin)) in &self.values {
            if let Err(cause) = serde_json::from_value::<T>(set(self.defaults.clone(), key, value)) {
                return Err(ConfigError::InvalidValue { key: key.clone(), origin: *origin, cause });
            }
        }
        Err(ConfigError::Inconsistent(together))
    }
}

/// The values of a tree by dotted key. Lists and empty maps are values.
pub(super) fn leaves(tree: &Value) -> Vec<(String, Value)> {
    fn collect(prefix: &str, node: &Value, into: &mut Vec<(String, Value)>) {
        match node {
            Value::Object(children) if prefix.is_empty() || !children.is_empty() => {
                for (name, child) in children {
                    let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                    collect(&key, child, into);
                }
            }
            leaf => into.push((prefix.to_owned(), leaf.clone())),
        }
    }
    let mut leaves = Vec::new();
    collect("", tree, &mut leaves);
    leaves
}

/// The default at `key`; null below a map or an unset optional, where every key is welcome; `None` for unknown keys.
fn find<'a>(defaults: &'a Value, key: &str) -> Option<&'a Value> {
    let mut node = defaults;
    for name in key.split('.') {
        node = match node {
            Value::Null => &Value::Null,
            Value::Object(children) if children.is_empty() => &Value::Null,
            Value::Object(children) => children.get(name)?,
            _ => return None,
        };
    }
    Some(node)
}

/// The tree with `value` at `key`.
fn set(tree: Value, key: &str, value: &Value) -> Value {
    let mut children = match tree {
        Value::Object(children) => children,
        _ => Map::new(),
    };
    let (name, child) = match key.split_once('.') {
        None => (key, value.clone()),
        Some((name, rest)) => (name, set(children.remove(name).unwrap_or_default(), rest, value)),
    };
    children.insert(name.to_owned(), child);
    Value::Object(children)
}

fn nearest(defaults: &Value, key: &str) -> Option<String> {
    let keys = leaves(defaults).into_iter().map(|(valid, _)| valid);
    keys.min_by_key(|valid| strsim::damerau_levenshtein(valid, key))
}

fn is_below(key: &str, parent: &str) -> bool {
    key.strip_prefix(parent).is_some_and(|rest| rest.starts_with('.'))
}

/// A TOML value if `text` is one, else the text.
fn scalar(text: String) -> Value {
    match toml::from_str::<toml::Table>(&format!("value = {text}")) {
        Ok(mut table) if table.len() == 1 => table.remove("value").map_or(Value::Null, to_json),
        _ => Value::String(text),
    }
}

fn to_json(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(truth) => truth.into(),
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::Array(items) => items.into_iter().map(to_json).collect(),
        toml::Value::Table(children) => children.into_iter().map(|(name, child)| (name, to_json(child))).collect(),
    }
}
