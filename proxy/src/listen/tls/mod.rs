//! TLS of the port: TLS 1.2 and 1.3 by rustls, ALPN `h2`, certificates that may change while we run.

mod files;
mod self_signed;

use std::convert::Infallible;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use serde::Deserialize;
use tokio_rustls::TlsAcceptor;

use self::files::{Files, Pem};
use super::metrics::ListenMetrics;

/// A change is to be noticed within 60 s, by the operations contract (section 12).
const POLL_EVERY: Duration = Duration::from_secs(10);

/// Which of TLS and plaintext the port speaks.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsMode {
    /// Plaintext only.
    Disabled,
    /// Both, told apart by the first byte: unchanged SDKs come with either.
    #[default]
    Permissive,
    /// TLS only.
    Required,
}

/// `tls.*` of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsSettings {
    /// Default `permissive`.
    pub mode: TlsMode,
    /// PEM file with the certificate, followed by its chain. Without `cert` and `key`, a self-signed one is made for
    /// every start, which clients that verify certificates refuse.
    pub cert: Option<PathBuf>,
    /// PEM file with the private key of `cert` (PKCS #8, PKCS #1 or SEC1).
    pub key: Option<PathBuf>,
}

/// Why there is no usable certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("tls.cert and tls.key go together, only one is set")]
    HalfConfigured,
    #[error("{} cannot be read", file.display())]
    Unreadable {
        file: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("{} is larger than {max} bytes", file.display())]
    TooLarge { file: PathBuf, max: u64 },
    #[error("{} holds no usable {what}", file.display())]
    NotPem {
        file: PathBuf,
        what: &'static str,
        #[source]
        cause: rustls_pki_types::pem::Error,
    },
    #[error("the certificate cannot be used")]
    Unusable(#[source] rustls::Error),
    #[error("no self-signed certificate could be made")]
    SelfSigned(#[source] rcgen::Error),
}

/// The TLS side of a port.
pub struct Tls {
    mode: TlsMode,
    acceptor: Option<TlsAcceptor>,
    certificate: Option<Arc<Certificate>>,
    files: Option<(Files, Pem)>,
    poll_every: Duration,
}

/// The certificate new handshakes get.
#[derive(Debug)]
struct Certificate(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl Tls {
    /// A port without TLS.
    pub fn disabled() -> Tls {
        Tls { mode: TlsMode::Disabled, acceptor: None, certificate: None, files: None, poll_every: POLL_EVERY }
    }

    /// Reads the files of `settings`, or makes a self-signed certificate when there are none and says so.
    pub async fn open(settings: &TlsSettings) -> Result<Tls, TlsError> {
        if settings.mode == TlsMode::Disabled {
            return Ok(Tls::disabled());
        }
        let (key, files) = match (&settings.cert, &settings.key) {
            (Some(cert), Some(key)) => {
                let files = Files { cert: cert.clone(), key: key.clone() };
                let pem = files.read().await?;
                (files.parse(&pem)?, Some((files, pem)))
            }
            (None, None) => (self_signed::certified_key()?, None),
            _ => return Err(TlsError::HalfConfigured),
        };
        let certificate = Arc::new(Certificate(ArcSwap::from_pointee(key)));
        let acceptor = TlsAcceptor::from(Arc::new(server_config(Arc::clone(&certificate))?));
        Ok(Tls {
            mode: settings.mode,
            acceptor: Some(acceptor),
            certificate: Some(certificate),
            files,
            poll_every: POLL_EVERY,
        })
    }

    /// Looks at the files this often instead of every 10 s.
    #[must_use]
    pub fn poll_every(mut self, poll_every: Duration) -> Tls {
        self.poll_every = poll_every;
        self
    }

    pub(super) fn acceptor(&self) -> Option<&TlsAcceptor> {
        self.acceptor.as_ref()
    }

    pub(super) fn plaintext(&self) -> bool {
        match self.mode {
            TlsMode::Disabled | TlsMode::Permissive => true,
            TlsMode::Required => false,
        }
    }

    /// Takes over changed files for new handshakes; whatever is wrong with them leaves the old certificate in use.
    /// Contents are compared, so that it does not matter how they were replaced: kubelet swaps a link to the folder.
    pub(super) async fn keep_fresh(&self, metrics: &ListenMetrics) -> Infallible {
        let (Some((files, first)), Some(certificate)) = (&self.files, &self.certificate) else {
            return std::future::pending().await;
        };
        let mut seen = first.clone();
        let mut complained = String::new();
        loop {
            tokio::time::sleep(self.poll_every).await;
            let outcome = match files.read().await {
                Ok(pem) if pem == seen => continue,
                Ok(pem) => {
                    seen = pem;
                    files.parse(&seen)
                }
                Err(error) => Err(error),
            };
            match outcome {
                Ok(key) => {
                    certificate.0.store(Arc::new(key));
                    complained.clear();
                    metrics.tls_reloaded("ok");
                    tracing::info!(event = "certificate_reloaded", file = %files.cert.display(), "certificate reloaded");
                }
                Err(error) => {
                    metrics.tls_reloaded("failed");
                    let complaint = tell(&error);
                    if complaint != complained {
                        tracing::error!(event = "certificate_rejected", error = complaint, "the old certificate stays");
                        complained = complaint;
                    }
                }
            }
        }
    }
}

/// The error with its cause.
fn tell(error: &TlsError) -> String {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    format!("{error}{}", cause.unwrap_or_default())
}

fn server_config(certificate: Arc<Certificate>) -> Result<ServerConfig, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(TlsError::Unusable)?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// Named here, so that no other crate's choice of a process-wide default reaches this port.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

#[cfg(test)]
mod tests;
