//! One connection over a pipe in memory, under a clock that jumps.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::*;

/// What every client says first, with its settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const HEADERS: u8 = 1;
const GOAWAY: u8 = 7;
const HOUR: Duration = Duration::from_secs(3600);

/// A connection being served, and the other end of its pipe.
struct Served {
    client: DuplexStream,
    server: JoinSet<Closed>,
    since: Instant,
    shared: Arc<Shared>,
}

/// Answers at once, except to `/wait`, which it never answers, and to `/left`, which ends when its connection leaves.
async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let departure: &Departure = request.extensions().get().expect("every request knows how its connection leaves");
    match request.uri().path() {
        "/wait" => std::future::pending().await,
        "/left" => departure.reached(Stage::Left).await,
        "/ends" => departure.reached(Stage::Ends).await,
        "/poll" => tokio::time::sleep(Duration::from_secs(20)).await,
        _ => {}
    }
    Ok(Response::new(Full::default()))
}

fn serve() -> Served {
    serve_with(AgeSettings { max: Duration::ZERO, ..AgeSettings::default() })
}

fn serve_with(age: AgeSettings) -> Served {
    let shared = Arc::new(Shared {
        limits: ConnectionLimits::default(),
        age,
        spread: Duration::ZERO,
        tls: Tls::disabled(),
        metrics: ListenMetrics::new(&opentelemetry::global::meter("test")),
        drain: CancellationToken::new(),
        streams: TaskTracker::new(),
    });
    let peer = PeerAddr(([127, 0, 0, 1], 1).into());
    let connection = Connection { id: ConnectionId(1), peer, shared: Arc::clone(&shared) };
    let (client, server_end) = tokio::io::duplex(64 * 1024);
    let mut server = JoinSet::new();
    server.spawn(connection.serve(server_end, tower::service_fn(answer), IsTls(false)));
    Served { client, server, since: Instant::now(), shared }
}

/// Why and when the server closed; fails after a day.
async fn end(mut server: JoinSet<Closed>, since: Instant) -> (Closed, u64) {
    let ended = timeout(24 * HOUR, server.join_next()).await.expect("the connection ends");
    (ended.expect("one task").expect("no panic"), since.elapsed().as_secs())
}

async fn connect(client: DuplexStream, tasks: &mut JoinSet<()>) -> SendRequest<Empty<Bytes>> {
    let (send, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(client)).await.expect("handshake");
    tasks.spawn(async move { drop(connection.await) });
    send
}

fn get(path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("http://proxy{path}")).body(Empty::new()).expect("a request")
}

#[tokio::test(start_paused = true)]
async fn half_a_preface_is_cut() {
    let Served { mut client, server, since, .. } = serve();
    client.write_all(b"PRI * HT").await.expect("sent");
    assert_eq!(end(server, since).await, (Closed::Idle, 15 + LINGER_MAX.as_secs()));
}

#[tokio::test(start_paused = true)]
async fn who_never_asks_is_asked_to_leave_after_ten_seconds() {
    let Served { client, server, since, .. } = serve();
    let mut tasks = JoinSet::new();
    let _send = connect(client, &mut tasks).await;
    assert_eq!(end(server, since).await, (Closed::Idle, 10));
}

#[tokio::test(start_paused = true)]
async fn two_idle_minutes_after_the_last_stream_are_enough() {
    let Served { client, server, since, .. } = serve();
    let mut tasks = JoinSet::new();
    let mut send = connect(client, &mut tasks).await;
    tokio::time::sleep(Duration::from_secs(7)).await;
    drop(send.send_request(get("/")).await.expect("answered"));
    assert_eq!(end(server, since).await, (Closed::Idle, 127));
}

#[tokio::test(start_paused = true)]
async fn an_open_stream_keeps_its_connection() {
    let Served { client, mut server, .. } = serve();
    let mut tasks = JoinSet::new();
    let mut send = connect(client, &mut tasks).await;
    assert!(timeout(HOUR, send.send_request(get("/wait"))).await.is_err(), "no answer");
    assert!(timeout(Duration::from_secs(60), server.join_next()).await.is_err(), "still served");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_no_ping_is_gone() {
    let Served { mut client, server, since, shared } = serve();
    client.write_all(PREFACE).await.expect("sent");
    client.write_all(b"\0\0\x09\x01\x05\0\0\0\x01\x82\x86\x04\x05/wait").await.expect("sent"); // GET http /wait
    let asked = Duration::from_secs(1);
    tokio::time::sleep(asked).await;
    assert_eq!(shared.streams.len(), 1);
    assert_eq!(end(server, since).await, (Closed::Error, 40)); // nobody reads the client's end
    shared.streams.close();
    timeout(asked, shared.streams.wait()).await.expect("the request went with its connection");
}

#[tokio::test(start_paused = true)]
async fn drain_waits_for_the_open_stream_only() {
    let Served { client, server, since, shared } = serve();
    let mut tasks = JoinSet::new();
    let mut send = connect(client, &mut tasks).await;
    drop(send.send_request(get("/")).await.expect("answered"));
    shared.drain.cancel();
    assert_eq!(end(server, since).await, (Closed::Drain, 0));
}

/// Connection 1 leaves after 254 s: 240 s less a quarter, and 0.618 of half of it.
const AGED: u64 = 254;

#[tokio::test(start_paused = true)]
async fn an_old_connection_leaves_when_its_last_call_has_ended() {
    let Served { client, server, since, .. } = serve_with(AgeSettings::default());
    let mut tasks = JoinSet::new();
    let mut send = connect(client, &mut tasks).await;
    let telemetry = send.send_request(get("/left"));
    tokio::time::sleep(Duration::from_secs(AGED - 1)).await;
    let poll = send.send_request(get("/poll"));
    let (telemetry, poll) = tokio::join!(telemetry, poll);
    assert_eq!(
        (telemetry.expect("ended well").status(), poll.expect("answered").status()),
        (StatusCode::OK, StatusCode::OK)
    );
    assert!(send.send_request(get("/")).await.is_err(), "there is no next call");
    assert_eq!(end(server, since).await, (Closed::Age, AGED + 19));
}

#[tokio::test(start_paused = true)]
async fn who_stays_after_the_grace_is_cut() {
    let Served { client, server, since, .. } = serve_with(AgeSettings::default());
    let mut tasks = JoinSet::new();
    let mut send = connect(client, &mut tasks).await;
    let waiting = tasks.spawn(async move { assert!(send.send_request(get("/wait")).await.is_err(), "cut") });
    assert_eq!(end(server, since).await, (Closed::Age, AGED + 45));
    drop(waiting);
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_what_an_old_connection_waits_for() {
    let Served { client, server, since, shared } = serve_with(AgeSettings::default());
    let mut tasks = JoinSet::new();
    let mut send = connect(client, &mut tasks).await;
    let poll = send.send_request(get("/ends"));
    let drain = async {
        tokio::time::sleep(Duration::from_secs(AGED + 10)).await;
        shared.drain.cancel();
    };
    let (ended, ()) = tokio::join!(poll, drain);
    assert_eq!(ended.expect("ended well").status(), StatusCode::OK);
    assert_eq!(end(server, since).await, (Closed::Age, AGED + 10));
}

/// A reset would take with it what a peer that is busy writing has not read: answers, and the GOAWAY.
#[tokio::test(start_paused = true)]
async fn what_still_comes_is_read_until_the_peer_closes() {
    async fn patient(closes: bool) -> (Closed, u64) {
        let Served { mut client, server, since, .. } = serve();
        client.write_all(PREFACE).await.expect("sent");
        client.read_to_end(&mut Vec::new()).await.expect("all that the server says");
        client.write_all(&[0; 256 * 1024]).await.expect("more than fits is taken");
        let _client = (!closes).then_some(client);
        end(server, since).await
    }
    let idle = (ConnectionLimits::default().first_request + GOAWAY_TIMEOUT).as_secs();
    assert_eq!(patient(true).await, (Closed::Idle, idle));
    assert_eq!(patient(false).await, (Closed::Idle, idle + LINGER_MAX.as_secs()));
}

/// A client that reads of the end of its stream first would open the next one on the same connection.
#[tokio::test(start_paused = true)]
async fn the_goaway_comes_before_what_ends_because_of_it() {
    let age = AgeSettings { max: Duration::from_secs(8), ..AgeSettings::default() };
    let Served { mut client, server, .. } = serve_with(age);
    client.write_all(PREFACE).await.expect("sent");
    client.write_all(b"\0\0\x09\x01\x05\0\0\0\x01\x82\x86\x04\x05/left").await.expect("sent"); // GET http /left
    let mut kinds = Vec::new();
    loop {
        let mut header = [0; 9];
        client.read_exact(&mut header).await.expect("a frame header");
        let length = usize::from(u16::from_be_bytes([header[1], header[2]]));
        client.read_exact(&mut vec![0; length]).await.expect("a whole frame");
        if let kind @ (HEADERS | GOAWAY) = header[3] {
            kinds.push(kind);
        }
        if kinds.contains(&HEADERS) {
            break;
        }
    }
    assert_eq!(kinds, [GOAWAY, HEADERS]);
    drop(server);
}

#[test]
fn turns_fill_the_spread_evenly() {
    let spread = Duration::from_secs(10);
    let mut per_second = [0; 10];
    for id in 1..=1_000 {
        let second = usize::try_from(turn(ConnectionId(id), spread).as_secs()).expect("below ten");
        per_second[second] += 1;
    }
    assert!(per_second.iter().all(|count| (95..=105).contains(count)), "{per_second:?}");
    assert_eq!(turn(ConnectionId(7), Duration::ZERO), Duration::ZERO);
}
