//! The port through its door: two protocols, broken peers, limits, drain.

#[path = "listen/kit.rs"]
mod kit;

use std::sync::Arc;
use std::time::Duration;

use apogee_proxy::listen::{ConnectionLimits, DrainSettings, ListenSettings, TlsMode, TlsSettings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use kit::{Asked, Port, SECONDS, bytes_until_closed, closed_by_server};

fn limits(limits: ConnectionLimits) -> ListenSettings {
    ListenSettings { limits, ..kit::settings() }
}

async fn check_health(channel: tonic::transport::Channel) {
    let request = HealthCheckRequest { service: String::new() };
    let answer = HealthClient::new(channel).check(request).await.expect("answered");
    assert_eq!(answer.into_inner().status, 1);
}

#[tokio::test]
async fn plaintext_and_tls_share_a_port() {
    let (tls, ca) = kit::certificate();
    let port = Port::health(kit::settings(), &tls.settings).await;
    check_health(port.plaintext().await).await;
    check_health(port.tls(&ca).await).await;
    let drained = port.stop().await;
    assert_eq!(drained.cut, 0);
}

#[tokio::test]
async fn the_mode_closes_one_of_the_two() {
    let (tls, ca) = kit::certificate();
    let required = TlsSettings { mode: TlsMode::Required, ..tls.settings.clone() };
    let port = Port::health(kit::settings(), &required).await;
    check_health(port.tls(&ca).await).await;
    assert!(closed_by_server(port.raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await).await);

    let disabled = TlsSettings { mode: TlsMode::Disabled, ..TlsSettings::default() };
    let port = Port::health(kit::settings(), &disabled).await;
    check_health(port.plaintext().await).await;
    assert!(closed_by_server(port.raw(&[0x16, 3, 1]).await).await);
}

#[tokio::test]
async fn broken_peers_are_closed_and_hurt_nobody() {
    let settings = limits(ConnectionLimits {
        tls_handshake: Duration::from_millis(200),
        first_request: Duration::from_millis(200),
        ..ConnectionLimits::default()
    });
    let mut port = Port::health(settings, &TlsSettings::default()).await;
    let noise: Vec<u8> = (0..4_096u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let hello_of_noise = [&[0x16, 3, 1, 2, 0], &noise[..512]].concat();
    let broken: [&[u8]; 8] = [
        b"",                                                                     // says nothing
        &[0x16],                                                                 // half a TLS hello, then silence
        &hello_of_noise,                                                         // looks like TLS
        b"\x00\x01\x02",                                                         // no protocol of ours
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",                                    // HTTP/1
        b"POST / HTTP/1.1\r\nhost: x\r\n\r\n",                                   // HTTP/1 that begins like HTTP/2
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff", // then no frame
        &noise,
    ];
    for bytes in broken {
        let peer = port.raw(bytes).await;
        assert!(closed_by_server(peer).await, "{bytes:?}");
    }
    for _ in broken {
        port.closed().await;
    }
    drop(port.raw(b"PRI").await); // leaves in the middle of a word
    port.closed().await;
    check_health(port.plaintext().await).await;
}

#[tokio::test]
async fn one_address_takes_only_its_share() {
    let settings = limits(ConnectionLimits { connections_per_ip: 2, ..ConnectionLimits::default() });
    let (mut port, _asked) = Port::echo(settings).await;
    let (first, second) = (port.h2().await, port.h2().await);
    assert!(closed_by_server(TcpStream::connect(port.address).await.expect("the system accepts")).await);
    drop(first);
    port.closed().await;
    let mut third = port.h2().await;
    assert_eq!(third.ask("/").await.expect("served"), 200);
    drop(second);
}

#[tokio::test]
async fn requests_know_their_connection() {
    let (port, mut asked) = Port::echo(kit::settings()).await;
    let (mut one, mut two) = (port.h2().await, port.h2().await);
    one.ask("/").await.expect("served");
    two.ask("/").await.expect("served");
    one.ask("/").await.expect("served");
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(asked.recv().await.expect("three requests"));
    }
    assert_eq!((seen[0].peer.0, seen[1].peer.0), (one.address, two.address));
    assert_eq!(seen[0].connection, seen[2].connection);
    assert_ne!(seen[0].connection, seen[1].connection);
    assert!(Arc::ptr_eq(&seen[0].bytes.0, &seen[2].bytes.0));
    assert!(!Arc::ptr_eq(&seen[0].bytes.0, &seen[1].bytes.0));
}

#[tokio::test]
async fn drain_lets_a_running_call_end() {
    let (port, mut asked) = Port::echo(kit::settings()).await;
    let mut client = port.h2().await;
    let mut waiting = client.begin("/wait");
    let Asked { go_on, .. } = asked.recv().await.expect("the call runs");
    let address = port.address;
    let stopping = port.stop();
    tokio::pin!(stopping);
    loop {
        tokio::select! {
            _ = &mut stopping => panic!("the port waits for its call"),
            answered = waiting.join_next() => panic!("the call waits for us: {answered:?}"),
            refused = TcpStream::connect(address) => if refused.is_err() { break },
        }
    }
    go_on.send(()).expect("the call still runs");
    let drained = stopping.await;
    assert_eq!(drained.cut, 0);
    assert_eq!(waiting.join_next().await.expect("one call").expect("no panic").expect("answered"), 200);
}

#[tokio::test]
async fn drain_cuts_what_outlives_the_grace_period() {
    let drain = DrainSettings { grace: Duration::from_millis(100), ..kit::at_once() };
    let (port, mut asked) = Port::echo(ListenSettings { drain, ..ListenSettings::default() }).await;
    let mut client = port.h2().await;
    let mut waiting = client.begin("/wait");
    let Asked { mut go_on, .. } = asked.recv().await.expect("the call runs");
    let drained = port.stop().await;
    assert_eq!((drained.finished, drained.cut), (0, 1));
    assert!(waiting.join_next().await.expect("one call").expect("no panic").is_err());
    tokio::time::timeout(SECONDS, go_on.closed()).await.expect("the call was dropped");
}

#[tokio::test]
async fn a_lame_duck_still_accepts() {
    let drain = DrainSettings { lame_duck: Duration::from_secs(3_600), ..kit::at_once() };
    let (port, _asked) = Port::echo(ListenSettings { drain, ..ListenSettings::default() }).await;
    port.stop.cancel();
    assert_eq!(port.h2().await.ask("/").await.expect("served"), 200);
}

#[tokio::test]
async fn a_new_certificate_is_served_without_a_restart() {
    let (tls, old) = kit::certificate();
    let port = Port::health(kit::settings(), &tls.settings).await;
    check_health(port.tls(&old).await).await;
    let new = tls.renew();
    let taken_over = async { while port.try_tls(&new).await.is_err() {} };
    tokio::time::timeout(SECONDS, taken_over).await.expect("the new certificate is served");
    assert!(port.try_tls(&old).await.is_err(), "the old one is not");
}

/// Settings and pings on the wire, byte by byte: RFC 9113 sections 6.5 and 6.7.
#[tokio::test]
async fn the_wire_announces_the_limits_and_answers_every_ping() {
    const PINGS: usize = 5_000;
    let (port, _asked) = Port::echo(kit::settings()).await;
    let mut peer = port.raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    let mut settings = std::collections::BTreeMap::new();
    let header = kit::frame_header(&mut peer).await;
    assert_eq!((header.kind, header.length % 6), (4, 0));
    for _ in 0..header.length / 6 {
        settings.insert(peer.read_u16().await.expect("key"), peer.read_u32().await.expect("value"));
    }
    assert_eq!([settings[&3], settings[&4], settings[&6]], [2_048, 4 * 1024 * 1024, 32 * 1024]);

    let (mut read, mut write) = peer.into_split();
    let pings = b"\0\0\x08\x06\0\0\0\0\0apogeemq".repeat(PINGS);
    let answers = async {
        let mut answered = 0;
        while answered < PINGS {
            let header = kit::frame_header(&mut read).await;
            assert_ne!(header.kind, 7, "no GOAWAY");
            let mut payload = vec![0; header.length];
            read.read_exact(&mut payload).await.expect("a whole frame");
            answered += usize::from(header.kind == 6 && payload == b"apogeemq");
        }
    };
    let (sent, ()) =
        tokio::time::timeout(SECONDS, async { tokio::join!(write.write_all(&pings), answers) }).await.expect("in time");
    sent.expect("sent");
    drop(write);
    assert!(bytes_until_closed(read).await.is_some());
}
