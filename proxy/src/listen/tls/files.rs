//! `tls.cert` and `tls.key`.

use std::path::{Path, PathBuf};

use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::fs::File;
use tokio::io::AsyncReadExt;

use super::{TlsError, provider};

/// Far above any real chain.
const FILE_MAX: u64 = 1024 * 1024;

/// Where the certificate and its key are.
pub(super) struct Files {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
}

/// What the files hold. Compared to notice a change; never shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Pem {
    cert: Vec<u8>,
    key: Vec<u8>,
}

impl Files {
    pub(super) async fn read(&self) -> Result<Pem, TlsError> {
        Ok(Pem { cert: read(&self.cert).await?, key: read(&self.key).await? })
    }

    /// The key pair in `pem`, checked to be one.
    pub(super) fn parse(&self, pem: &Pem) -> Result<CertifiedKey, TlsError> {
        let chain = CertificateDer::pem_slice_iter(&pem.cert)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|cause| not_pem(&self.cert, "certificate", cause))?;
        let key = PrivateKeyDer::from_pem_slice(&pem.key).map_err(|cause| not_pem(&self.key, "private key", cause))?;
        CertifiedKey::from_der(chain, key, &provider()).map_err(TlsError::Unusable)
    }
}

fn not_pem(file: &Path, what: &'static str, cause: rustls_pki_types::pem::Error) -> TlsError {
    TlsError::NotPem { file: file.to_owned(), what, cause }
}

async fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    let unreadable = |cause| TlsError::Unreadable { file: file.to_owned(), cause };
    let mut content = Vec::new();
    let open = File::open(file).await.map_err(unreadable)?;
    open.take(FILE_MAX + 1).read_to_end(&mut content).await.map_err(unreadable)?;
    if u64::try_from(content.len()).is_ok_and(|length| length <= FILE_MAX) {
        Ok(content)
    } else {
        Err(TlsError::TooLarge { file: file.to_owned(), max: FILE_MAX })
    }
}
