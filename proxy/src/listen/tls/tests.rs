//! Certificates that are missing, broken, replaced.

use std::fs;

use tempfile::TempDir;
use tokio::time::timeout;

use super::*;

/// Writes a fresh certificate for localhost and its key; returns the settings and the certificate.
fn issue(folder: &TempDir) -> (TlsSettings, Vec<u8>) {
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let settings = TlsSettings {
        mode: TlsMode::Permissive,
        cert: Some(folder.path().join("tls.crt")),
        key: Some(folder.path().join("tls.key")),
    };
    fs::write(settings.cert.as_ref().expect("set"), issued.cert.pem()).expect("written");
    fs::write(settings.key.as_ref().expect("set"), issued.signing_key.serialize_pem()).expect("written");
    (settings, issued.cert.der().to_vec())
}

/// Lets `tls` look at its files twice.
async fn look_twice(tls: &Tls) {
    let metrics = ListenMetrics::new(&opentelemetry::global::meter("test"));
    let looked = timeout(POLL_EVERY * 5 / 2, tls.keep_fresh(&metrics)).await;
    assert!(looked.is_err(), "it never ends by itself");
}

fn presented(tls: &Tls) -> Vec<u8> {
    let certificate = tls.certificate.as_ref().expect("TLS is on").0.load_full();
    certificate.cert[0].to_vec()
}

#[tokio::test(start_paused = true)]
async fn changed_files_are_taken_over_and_broken_ones_are_not() {
    let folder = TempDir::new().expect("a folder");
    let (settings, first) = issue(&folder);
    let tls = Tls::open(&settings).await.expect("usable");
    look_twice(&tls).await;
    assert_eq!(presented(&tls), first);

    let (_, second) = issue(&folder);
    assert_ne!(first, second);
    look_twice(&tls).await;
    assert_eq!(presented(&tls), second);

    let cert = settings.cert.as_ref().expect("set");
    let good = fs::read(cert).expect("readable");
    for bad in [b"".as_slice(), b"garbage", &good[..good.len() / 2]] {
        fs::write(cert, bad).expect("written");
        look_twice(&tls).await;
        assert_eq!(presented(&tls), second);
    }
    fs::remove_file(cert).expect("removed");
    look_twice(&tls).await;
    assert_eq!(presented(&tls), second);

    let (_, third) = issue(&folder);
    look_twice(&tls).await;
    assert_eq!(presented(&tls), third);
}

#[tokio::test]
async fn what_cannot_be_served_is_refused_at_start() {
    let folder = TempDir::new().expect("a folder");
    let (settings, _) = issue(&folder);
    let half = TlsSettings { key: None, ..settings.clone() };
    assert!(matches!(Tls::open(&half).await.err(), Some(TlsError::HalfConfigured)));

    let swapped = TlsSettings { cert: settings.key.clone(), key: settings.cert.clone(), ..settings.clone() };
    assert!(matches!(Tls::open(&swapped).await.err(), Some(TlsError::Unusable(_) | TlsError::NotPem { .. })));

    let other = TempDir::new().expect("a folder");
    let foreign = TlsSettings { key: issue(&other).0.key, ..settings.clone() };
    let refused = Tls::open(&foreign).await.err().map(|error| tell(&error)).expect("keys do not match");
    assert!(refused.starts_with("the certificate cannot be used: "), "{refused}");

    fs::write(settings.key.as_ref().expect("set"), vec![b'x'; 2 * 1024 * 1024]).expect("written");
    assert!(matches!(Tls::open(&settings).await.err(), Some(TlsError::TooLarge { .. })));

    let missing = TlsSettings { cert: Some("/nowhere/tls.crt".into()), ..settings };
    let refused = Tls::open(&missing).await.err().map(|error| tell(&error)).expect("no file");
    assert!(refused.starts_with("/nowhere/tls.crt cannot be read: "), "{refused}");
}

#[tokio::test]
async fn without_files_each_start_makes_its_own_certificate() {
    let one = Tls::open(&TlsSettings::default()).await.expect("self-signed");
    let two = Tls::open(&TlsSettings::default()).await.expect("self-signed");
    assert_ne!(presented(&one), presented(&two));
}
