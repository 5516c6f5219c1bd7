//! A certificate for when none is configured: enough for the SDKs that encrypt without verifying.

use rcgen::{CertificateParams, KeyPair};
use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivateKeyDer;

use super::{TlsError, provider};

/// A fresh key and its certificate for this host, kept in memory only.
pub(super) fn certified_key() -> Result<CertifiedKey, TlsError> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    names.extend(rustix::system::uname().nodename().to_str().ok().filter(|name| is_dns_name(name)).map(str::to_owned));
    tracing::warn!(
        event = "self_signed_certificate",
        ?names,
        "no tls.cert is set: clients that verify certificates will refuse this one"
    );
    let key = KeyPair::generate().map_err(TlsError::SelfSigned)?;
    let certificate =
        CertificateParams::new(names).and_then(|params| params.self_signed(&key)).map_err(TlsError::SelfSigned)?;
    let private = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    CertifiedKey::from_der(vec![certificate.der().clone()], private, &provider()).map_err(TlsError::Unusable)
}

/// Whether a host name may stand in a certificate; Linux accepts any bytes as one.
fn is_dns_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.')
}
