//! Profiles: servers by name, in `apogee/config.toml` of `$XDG_CONFIG_HOME` or `~/.config`. And `apogee profile …`.
//!
//! ```toml
//! profile = "staging"            # the one that is used when no other is named
//!
//! [profiles.staging]
//! endpoint = "mq.staging:8081"
//! admin_endpoint = "mq.staging:8088"
//! token_file = "/home/me/staging.token"
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::CliError;
use super::output::{Output, Table};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Lists the profiles
    List,
    /// Shows one profile, or the one in use
    Show { name: Option<String> },
    /// Uses a profile from now on, wherever no other is named
    Use { name: String },
}

/// One server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profile {
    /// Message port, `host:port`.
    pub(crate) endpoint: Option<String>,
    /// Admin port, `host:port`.
    pub(crate) admin_endpoint: Option<String>,
    /// File with the admin token; relative to the folder of the configuration.
    pub(crate) token_file: Option<PathBuf>,
}

/// The configuration of the CLI.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profiles {
    /// The profile in use.
    profile: Option<String>,
    #[serde(default)]
    profiles: BTreeMap<String, Profile>,
}

impl Profiles {
    /// Reads the file of this user; without one there are no profiles.
    ///
    /// # Errors
    /// [`CliError::Profiles`] when it cannot be read or understood.
    pub(crate) fn open() -> Result<Profiles, CliError> {
        path().map_or_else(|| Ok(Profiles::default()), |path| Profiles::read(&path))
    }

    fn read(path: &Path) -> Result<Profiles, CliError> {
        let wrong = |cause: String| CliError::Profiles { path: path.to_owned(), cause };
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Profiles::default()),
            text => text.map_err(|error| wrong(error.to_string()))?,
        };
        let mut read: Profiles = toml::from_str(&text).map_err(|error| wrong(error.to_string().trim_end().into()))?;
        for profile in read.profiles.values_mut() {
            let folder = path.parent().unwrap_or(Path::new("/"));
            profile.token_file = profile.token_file.take().map(|file| folder.join(file));
        }
        Ok(read)
    }

    /// The profile of this name, or the one in use when none is named; `None` when none is in use.
    ///
    /// # Errors
    /// [`CliError::NoProfile`].
    pub(crate) fn pick(&self, name: Option<&str>) -> Result<Option<(&str, &Profile)>, CliError> {
        let Some(name) = name.or(self.profile.as_deref()) else { return Ok(None) };
        let found = self.profiles.get_key_value(name).map(|(name, profile)| (name.as_str(), profile));
        let known = || self.profiles.keys().cloned().collect();
        found.map(Some).ok_or_else(|| CliError::NoProfile { name: name.to_owned(), known: known() })
    }
}

pub(crate) fn run(verb: Verb, output: &Output) -> Result<(), CliError> {
    let profiles = Profiles::open()?;
    match verb {
        Verb::List => list(&profiles, output),
        Verb::Show { name } => show(&profiles, name.as_deref(), output),
        Verb::Use { name } => {
            profiles.pick(Some(&name))?;
            let path =
                path().ok_or_else(|| CliError::Profiles { path: "config.toml".into(), cause: NO_HOME.into() })?;
            let write = |text: String| fs::write(&path, text);
            let used = fs::read_to_string(&path).map(|text| in_use(&text, &name)).and_then(write);
            used.map_err(|error| CliError::Profiles { path: path.clone(), cause: error.to_string() })?;
            Ok(output.tell(&json!({ "name": name }), &format!("profile {name} is used from now on"))?)
        }
    }
}

fn list(profiles: &Profiles, output: &Output) -> Result<(), CliError> {
    let mut table = Table::with_wide(&["NAME", "USED", "ADMIN_ENDPOINT"], &["ENDPOINT", "TOKEN_FILE"]);
    let mut rows = Vec::new();
    for (name, profile) in &profiles.profiles {
        let used = profiles.profile.as_ref() == Some(name);
        let [endpoint, admin, token] = cells(profile);
        table.row([name.clone(), if used { "yes" } else { "-" }.to_owned(), admin, endpoint, token]);
        rows.push(document(name, profile, used));
    }
    Ok(output.show(&json!({ "profiles": rows }), &table)?)
}

fn show(profiles: &Profiles, name: Option<&str>, output: &Output) -> Result<(), CliError> {
    let none = || CliError::Usage { message: "no profile is in use, and none was named".to_owned() };
    let (name, profile) = profiles.pick(name)?.ok_or_else(none)?;
    let mut table = Table::new(&["NAME", "ENDPOINT", "ADMIN_ENDPOINT", "TOKEN_FILE"]);
    let [endpoint, admin, token] = cells(profile);
    table.row([name.to_owned(), endpoint, admin, token]);
    Ok(output.show(&document(name, profile, profiles.profile.as_deref() == Some(name)), &table)?)
}

fn cells(profile: &Profile) -> [String; 3] {
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let token = profile.token_file.as_ref().map(|file| file.display().to_string());
    [or_none(profile.endpoint.clone()), or_none(profile.admin_endpoint.clone()), or_none(token)]
}

fn document(name: &str, profile: &Profile, used: bool) -> Value {
    json!({
        "name": name,
        "used": used,
        "endpoint": profile.endpoint,
        "admin_endpoint": profile.admin_endpoint,
        "token_file": profile.token_file,
    })
}

/// The text of the file with another profile in use, and nothing else changed. Keys of the whole file stand before its
/// first table, so the line is found there or put first.
fn in_use(text: &str, name: &str) -> String {
    let line = format!("profile = {}", toml::Value::from(name));
    let is_key =
        |line: &&str| line.trim_start().strip_prefix("profile").is_some_and(|rest| rest.trim_start().starts_with('='));
    let old = text.lines().take_while(|line| !line.trim_start().starts_with('[')).find(is_key);
    match old {
        Some(old) => text.replacen(old, &line, 1),
        None => format!("{line}\n{text}"),
    }
}

const NO_HOME: &str = "neither XDG_CONFIG_HOME nor HOME is set";

/// Source: XDG Base Directory Specification (relative paths are to be ignored).
fn path() -> Option<PathBuf> {
    let absolute = |path: PathBuf| path.is_absolute().then_some(path);
    let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).and_then(absolute);
    let config = config.or_else(|| Some(absolute(std::env::home_dir()?)?.join(".config")))?;
    Some(config.join("apogee/config.toml"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_profile_is_used_and_the_rest_of_the_file_stays() {
        let tables = "\n# mine\n[profiles.a]\nendpoint = \"x:1\" # here\n[profiles.b]\n";
        let first = in_use(tables, "a");
        assert_eq!(first, format!("profile = \"a\"\n{tables}"));
        assert_eq!(in_use(&first, "b"), format!("profile = \"b\"\n{tables}"));
        let read: Profiles = toml::from_str(&in_use(&first, "b")).unwrap();
        assert_eq!(read.pick(None).unwrap().unwrap().0, "b");
        assert_eq!(read.pick(Some("a")).unwrap().unwrap().1.endpoint.as_deref(), Some("x:1"));
        assert!(matches!(read.pick(Some("c")), Err(CliError::NoProfile { known, .. }) if known == ["a", "b"]));
    }

    #[test]
    fn a_token_is_found_beside_the_file_and_mistakes_name_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        assert!(Profiles::read(&path).unwrap().pick(None).unwrap().is_none());
        fs::write(&path, "[profiles.a]\ntoken_file = \"a.token\"\n").unwrap();
        let read = Profiles::read(&path).unwrap();
        assert_eq!(read.profiles["a"].token_file, Some(folder.path().join("a.token")));
        fs::write(&path, "[profiles.a]\nendpont = \"x:1\"\n").unwrap();
        let told = Profiles::read(&path).unwrap_err().to_string();
        assert!(told.contains("config.toml") && told.contains("endpont"), "{told}");
    }
}
