//! The data folder: whose it is, which version wrote it, and the token that guards the admin API.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf, absolute};

use apogee_host::{Disk as _, DiskOpenError, Entropy, Exit, ExitWith, RealDisk};
use apogee_proto::token::ClusterToken;
use bytes::Bytes;
use tempfile::TempDir;

use crate::record::write_private;

/// The file that names the version of everything beside it.
const FORMAT: &str = "FORMAT";
/// Its whole content. "first-light" is the stage: a folder of it need not open in later ones.
const FORMAT_TEXT: &str = "apogee-data 1.0 first-light\n";
const TOKEN: &str = "admin.token";

/// Why there is no data to work with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataError {
    #[error("another process uses {path}; stop it, or choose another folder with --data")]
    InUse { path: PathBuf },
    #[error(transparent)]
    Unusable(DiskOpenError),
    #[error("{path} holds other files, such as {found}, and no FORMAT; choose an empty folder with --data")]
    Foreign { path: PathBuf, found: String },
    #[error("{path} says {found:?}, this version of apogee reads {:?}; start the version that wrote it, or choose \
             another folder with --data", FORMAT_TEXT.trim())]
    OtherFormat { path: PathBuf, found: String },
    #[error("{path} holds no admin token of 64 hexadecimal digits; remove it to get a new one")]
    Token { path: PathBuf },
    #[error("{path} cannot be used")]
    Io {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
}

impl ExitWith for DataError {
    fn exit(&self) -> Exit {
        match self {
            DataError::InUse { .. } | DataError::Foreign { .. } | DataError::OtherFormat { .. } => Exit::Usage,
            DataError::Unusable(cause) => cause.exit(),
            DataError::Token { .. } => Exit::Permission,
            DataError::Io { cause, .. } => cause.exit(),
        }
    }
}

/// The locked folder of this process.
#[derive(Debug)]
pub(crate) struct Data {
    /// Absolute.
    pub(crate) folder: PathBuf,
    pub(crate) disk: RealDisk,
    /// Removes an ephemeral folder; the last field, dropped after the disk.
    pub(crate) temporary: Option<TempDir>,
}

impl Data {
    /// Locks the folder, or makes a temporary one for `None`. Blocks.
    pub(crate) fn open(wanted: Option<&Path>) -> Result<Data, DataError> {
        let unusable = |path: &Path| {
            let path = path.to_owned();
            move |cause| DataError::Io { path, cause }
        };
        let temporary = match wanted {
            Some(_) => None,
            None => {
                let made = tempfile::Builder::new().prefix("apogee-").tempdir();
                Some(made.map_err(unusable(&std::env::temp_dir()))?)
            }
        };
        let wanted = temporary.as_ref().map(TempDir::path).or(wanted).unwrap_or_else(|| Path::new(""));
        let folder = absolute(wanted).map_err(unusable(wanted))?;
        refuse_foreign(&folder)?;
        let disk = RealDisk::open(&folder).map_err(|error| match error {
            DiskOpenError::Locked { path } => DataError::InUse { path },
            unusable @ DiskOpenError::Unusable { .. } => DataError::Unusable(unusable),
        })?;
        Ok(Data { folder, disk, temporary })
    }

    /// Accepts a folder of this format, marks a new one, refuses any other.
    pub(crate) async fn check_format(&self) -> Result<(), DataError> {
        let path = self.folder.join(FORMAT);
        let failed = |cause| DataError::Io { path: path.clone(), cause };
        match self.disk.read(FORMAT).await {
            Ok(text) if *text == *FORMAT_TEXT.as_bytes() => Ok(()),
            Ok(text) => {
                let found = String::from_utf8_lossy(&text).trim().chars().take(80).collect();
                Err(DataError::OtherFormat { path, found })
            }
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
                self.disk.replace(FORMAT, Bytes::from_static(FORMAT_TEXT.as_bytes())).await.map_err(failed)
            }
            Err(cause) => Err(failed(cause)),
        }
    }

    pub(crate) fn token_path(&self) -> PathBuf {
        self.folder.join(TOKEN)
    }

    /// The admin token, drawn at the first start; only the owner of the file may read it. Blocks.
    pub(crate) fn token(&self, entropy: &dyn Entropy) -> Result<ClusterToken, DataError> {
        let path = self.token_path();
        let failed = |cause| DataError::Io { path: path.clone(), cause };
        match fs::read_to_string(&path) {
            Ok(text) => {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
                ClusterToken::parse(&text).map_err(|_| DataError::Token { path: path.clone() })
            }
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
                let mut bytes = [0; ClusterToken::BYTES];
                entropy.fill(&mut bytes);
                let token = ClusterToken::new(bytes);
                write_private(&path, format!("{}\n", token.reveal()).as_bytes()).map_err(failed)?;
                Ok(token)
            }
            Err(cause) => Err(failed(cause)),
        }
    }
}

/// Refuses a folder of somebody else before anything in it is touched. One without FORMAT is new when it is empty, or
/// holds no more than the lock of a first start that was cut short; a volume of its own may have a `lost+found`.
fn refuse_foreign(folder: &Path) -> Result<(), DataError> {
    let entries = match fs::read_dir(folder) {
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|cause| DataError::Io { path: folder.to_owned(), cause })?,
    };
    let mut names = entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()));
    let has = |name: &str| folder.join(name).exists();
    let expected = |name: &str| name == "lost+found" || has("LOCK") && matches!(name, "LOCK" | "tmp");
    match names.find(|name| !expected(name)) {
        Some(found) if !has(FORMAT) => Err(DataError::Foreign { path: folder.to_owned(), found }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use apogee_host::OsEntropy;

    use super::*;

    fn open(folder: &Path) -> Result<Data, DataError> {
        Data::open(Some(folder))
    }

    async fn opened(folder: &Path) -> String {
        let outcome = match open(folder) {
            Ok(data) => data.check_format().await,
            Err(error) => Err(error),
        };
        outcome.map_or_else(|error| error.to_string(), |()| "fine".to_owned())
    }

    #[tokio::test]
    async fn a_folder_is_ours_or_refused() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("data");
        assert_eq!(opened(&folder).await, "fine");
        assert_eq!(opened(&folder).await, "fine");
        assert_eq!(fs::read_to_string(folder.join(FORMAT)).unwrap(), FORMAT_TEXT);
        for other in ["apogee-data 2.0\n", "apogee-data 1.0\n", "", "\u{1b}["] {
            fs::write(folder.join(FORMAT), other).unwrap();
            assert!(opened(&folder).await.contains("this version of apogee reads"), "{other:?}");
        }
        fs::remove_file(folder.join(FORMAT)).unwrap();
        assert_eq!(opened(&folder).await, "fine");
    }

    #[tokio::test]
    async fn a_folder_of_somebody_else_is_not_touched() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("tmp")).unwrap();
        fs::write(home.path().join("tmp/letter.txt"), "mine").unwrap();
        assert!(opened(home.path()).await.contains("such as tmp"));
        assert!(home.path().join("tmp/letter.txt").exists());
        assert!(!home.path().join("LOCK").exists());
    }

    #[tokio::test]
    async fn a_folder_has_one_process() {
        let home = tempfile::tempdir().unwrap();
        let first = open(home.path()).unwrap();
        let refused = open(home.path()).map(|_| ()).unwrap_err();
        assert!(refused.to_string().starts_with("another process uses "), "{refused}");
        assert_eq!(refused.exit(), Exit::Usage);
        drop(first);
        assert_eq!(opened(home.path()).await, "fine");
    }

    #[test]
    fn the_token_stays_the_same_and_private() {
        let home = tempfile::tempdir().unwrap();
        let data = open(home.path()).unwrap();
        let token = data.token(&OsEntropy).unwrap().reveal();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&data.token_path()), 0o600);
        fs::set_permissions(data.token_path(), fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(data.token(&OsEntropy).unwrap().reveal(), token);
        assert_eq!(mode(&data.token_path()), 0o600);
        fs::write(data.token_path(), "short").unwrap();
        assert!(matches!(data.token(&OsEntropy), Err(DataError::Token { .. })));
    }

    #[test]
    fn an_ephemeral_folder_goes_with_its_process() {
        let data = Data::open(None).unwrap();
        let folder = data.folder.clone();
        assert!(folder.is_dir());
        drop(data);
        assert!(!folder.exists());
    }
}
