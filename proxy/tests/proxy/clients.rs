//! Who is connected, as the admin API tells it, of one proxy and of several.

use std::sync::Arc;
use std::time::Duration;

use apogee_host::OnError;
use apogee_model::{NodeName, ProxyNode};
use apogee_proto::admin::v1;
use apogee_proto::admin::v1::admin_client::AdminClient;
use apogee_proto::token::{ClusterToken, TokenShown};
use apogee_proto::v2;
use apogee_proxy::admin::{self, AdminParts};
use apogee_proxy::{ProxySettings, Stores};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};

use crate::settings::{open, producer};
use crate::support::{World, from, resource, world_with};

pub(crate) type Admin = AdminClient<InterceptedService<Channel, TokenShown>>;

pub(crate) fn token() -> ClusterToken {
    ClusterToken::new([7; 32])
}

pub(crate) async fn proxy(name: &str) -> World {
    world_with(ProxySettings { name: name.into(), ..ProxySettings::default() }).await
}

/// Opens a port for the admin API; returns a client of it and its address.
pub(crate) async fn serve(world: &World, service: admin::Service) -> (Admin, String) {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap().to_string();
    let server = Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(tcp));
    world.tasks.spawn("admin", OnError::LogAndEnd, async move { server.await.map_err(std::io::Error::other) });
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy();
    (AdminClient::with_interceptor(channel, TokenShown::new(Some(&token()))), address)
}

pub(crate) fn node(name: &str, admin: &str) -> ProxyNode {
    ProxyNode { name: NodeName::parse(name).unwrap(), admin: admin.to_owned(), incarnation: 1 }
}

async fn beats(world: &mut World, client: &str, group: &str) {
    let beat = v2::HeartbeatRequest { group: resource(group), client_type: v2::ClientType::SimpleConsumer.into() };
    world.client.heartbeat(from(client, beat)).await.unwrap();
}

async fn list(admin: &mut Admin, ask: v1::ListClientsRequest) -> (String, Vec<v1::MissingProxy>, String) {
    let page = admin.list_clients(ask).await.unwrap().into_inner();
    let rows: Vec<_> = page.clients.iter().map(|client| format!("{}@{}", client.id, client.proxy)).collect();
    (rows.join(" "), page.missing, page.next_page_token)
}

fn describe(id: &str) -> v1::DescribeClientRequest {
    v1::DescribeClientRequest { id: id.to_owned(), local_only: false }
}

#[tokio::test]
async fn one_proxy_tells_what_it_knows() {
    let mut world = proxy("p1").await;
    let _stream = open(&mut world, "producer", producer()).await;
    beats(&mut world, "consumer", "workers").await;
    let (mut admin, _) = serve(&world, world.proxy.admin(Some(token()), CancellationToken::new())).await;
    let known = admin.describe_client(describe("producer")).await.unwrap().into_inner();
    let [client] = &known.clients[..] else { panic!("{known:?}") };
    assert_eq!(
        (client.kind(), client.topics.join(","), client.topics_total),
        (v1::ClientKind::Producer, "orders".into(), 1)
    );
    assert_eq!((client.language.as_str(), client.version.as_str(), client.connections), ("java", "5.0.7", 1));
    let known = admin.describe_client(describe("consumer")).await.unwrap().into_inner();
    assert_eq!((known.clients[0].kind(), known.clients[0].group.as_str()), (v1::ClientKind::SimpleConsumer, "workers"));

    let all = v1::ListClientsRequest::default;
    assert_eq!(list(&mut admin, all()).await.0, "consumer@p1 producer@p1");
    let of = |group: &str, topic: &str| v1::ListClientsRequest { group: group.into(), topic: topic.into(), ..all() };
    assert_eq!(list(&mut admin, of("workers", "")).await.0, "consumer@p1");
    assert_eq!(list(&mut admin, of("", "orders")).await.0, "producer@p1");
    assert_eq!(list(&mut admin, of("idlers", "")).await.0, "");
    let refused = admin.list_clients(of("a b", "")).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    let refused = admin.describe_client(describe("nobody")).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::NotFound, "no proxy hears a client nobody"));
    let refused = admin.describe_client(describe(" ")).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
}

#[tokio::test]
async fn any_proxy_tells_what_all_know_and_names_those_that_do_not_answer() {
    let (mut one, mut two) = (proxy("p1").await, proxy("p2").await);
    for client in ["a", "c", "e"] {
        beats(&mut one, client, "workers").await;
    }
    for client in ["b", "c", "d"] {
        beats(&mut two, client, "workers").await;
    }
    let (mut admin, first) = serve(&one, one.proxy.admin(Some(token()), CancellationToken::new())).await;
    let (_, second) = serve(&two, two.proxy.admin(Some(token()), CancellationToken::new())).await;
    let other_token = admin::service(AdminParts {
        cluster_name: "testing".to_owned(),
        routes: Arc::clone(&two.routes) as _,
        stores: Stores::default(),
        token: Some(ClusterToken::new([8; 32])),
        stop: CancellationToken::new(),
    });
    let (_, foreign) = serve(&two, other_token).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap(); // takes connections, and says nothing
    let both = vec![node("p1", &first), node("p2", &second)];
    *one.routes.proxies.lock().unwrap() = Ok(both.clone());

    let all = v1::ListClientsRequest::default();
    let (rows, missing, _) = list(&mut admin, all.clone()).await;
    assert_eq!((rows.as_str(), missing.len()), ("a@p1 b@p2 c@p1 c@p2 d@p2 e@p1", 0));
    let here = v1::ListClientsRequest { local_only: true, ..all.clone() };
    assert_eq!(list(&mut admin, here).await.0, "a@p1 c@p1 e@p1");
    let (mut pages, mut token) = (Vec::new(), String::new());
    loop {
        let ask = v1::ListClientsRequest { page_size: 2, page_token: token, ..all.clone() };
        let (rows, _, next) = list(&mut admin, ask).await;
        pages.push(rows);
        token = next;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(pages, ["a@p1 b@p2", "c@p1 c@p2 d@p2", "e@p1"]);
    assert_eq!(admin.describe_client(describe("c")).await.unwrap().into_inner().clients.len(), 2);
    assert_eq!(admin.describe_client(describe("d")).await.unwrap().into_inner().clients[0].proxy, "p2");

    let silent_address = silent.local_addr().unwrap().to_string();
    let others = [node("p3", &silent_address), node("p4", "127.0.0.1:1"), node("p5", &foreign), node("p6", "nonsense")];
    *one.routes.proxies.lock().unwrap() = Ok(both.into_iter().chain(others).collect());
    let asked = Duration::from_secs(10);
    let answer = tokio::time::timeout(asked, list(&mut admin, all.clone()));
    let (rows, missing, _) = answer.await.expect("nobody waits longer than for one of them");
    assert_eq!(rows, "a@p1 b@p2 c@p1 c@p2 d@p2 e@p1");
    assert_eq!(missing.iter().map(|missing| missing.proxy.as_str()).collect::<Vec<_>>(), ["p3", "p4", "p5", "p6"]);
    assert!(missing[0].why.contains("did not answer within 3s"), "{missing:?}");
    assert!(missing[2].why.contains("not the one of this cluster"), "{missing:?}");
    let refused = admin.describe_client(describe("z")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert!(refused.message().contains("proxy p3 and 3 more did not answer"), "{refused}");

    *one.routes.proxies.lock().unwrap() = Err("namesrv is away".to_owned());
    let (rows, missing, _) = list(&mut admin, all).await;
    assert_eq!((rows.as_str(), missing[0].proxy.as_str()), ("a@p1 c@p1 e@p1", ""));
    assert!(missing[0].why.contains("namesrv is away"), "{missing:?}");
}
