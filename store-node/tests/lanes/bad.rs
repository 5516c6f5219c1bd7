//! What no proxy of ours sends.

use std::time::Duration;

use apogee_model::store::Settlement;
use apogee_model::{DeliverySeq, Epoch, GroupId, QueueId, QueueOffset, TopicId};
use apogee_proto::store::v1::lane_answer::Result as Answered;
use apogee_proto::store::v1::lane_client::LaneClient;
use apogee_proto::store::v1::lane_error::Reason;
use apogee_proto::store::v1::lane_request::Ask;
use apogee_proto::store::v1::{
    AppendAsk, LaneAnswers, LaneHello, LaneKind, LaneRequest, LaneRequests, PopAsk, SettleAsk, WatchAsk,
};
use futures::stream;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};

use crate::support::{GROUP, SOON, Site, append, leader, receive};

fn hello(proxy_incarnation: u64) -> LaneRequests {
    let hello = LaneHello { proxy_incarnation, kind: LaneKind::Pop.into(), replica_group: GROUP.0 };
    LaneRequests { hello: Some(hello), requests: Vec::new() }
}

/// A lane with a hand-made beginning, and what to say later.
async fn lane(
    site: &Site,
    first: LaneRequests,
) -> Result<(mpsc::Sender<LaneRequests>, Streaming<LaneAnswers>), Status> {
    let (later, mut frames) = mpsc::channel(16);
    later.send(first).await.expect("there is room");
    let frames = stream::poll_fn(move |context| frames.poll_recv(context));
    let client = LaneClient::connect(format!("http://{}", site.address)).await;
    let answers = client.expect("the port is served").work(frames).await?.into_inner();
    Ok((later, answers))
}

fn requests(asks: impl IntoIterator<Item = Option<Ask>>) -> LaneRequests {
    let requests = asks.into_iter().zip(1..).map(|(ask, id)| LaneRequest { id, deadline_ms: 5000, ask });
    LaneRequests { hello: None, requests: requests.collect() }
}

#[tokio::test]
async fn a_lane_says_whose_it_is() {
    let site = Site::new(1, leader(1)).await;
    for first in [LaneRequests::default(), LaneRequests { hello: Some(LaneHello::default()), requests: Vec::new() }] {
        let refused = lane(&site, first).await.map(|_| ()).unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    }
}

#[tokio::test]
async fn items_without_sense_are_refused_one_by_one() {
    let site = Site::new(1, leader(1)).await;
    let (later, mut answers) = lane(&site, hello(1)).await.unwrap();
    let bad_queue = apogee_proto::store::v1::DeliveryKey { queue: 1 << 20, ..Default::default() };
    let asks = [
        None,
        Some(Ask::Append(AppendAsk::default())),
        Some(Ask::Pop(PopAsk::default())),
        Some(Ask::Settle(SettleAsk { key: Some(bad_queue), change_ms: None, ..SettleAsk::default() })),
        Some(Ask::TopicStatus(1)),
    ];
    let mut frame = requests(asks);
    frame.requests.push(LaneRequest { id: 6, deadline_ms: 0, ask: Some(Ask::Pop((&receive(1)).into())) });
    later.send(frame).await.unwrap();
    let mut fates = std::collections::BTreeMap::new();
    while fates.len() < 6 {
        let frame = timeout(SOON, answers.message()).await.unwrap().unwrap().expect("the lane goes on");
        for answer in frame.answers {
            let refused = match answer.result.unwrap() {
                Answered::Error(error) => matches!(error.reason, Some(Reason::Refused(_) | Reason::TimeoutMs(_))),
                _ => false,
            };
            fates.insert(answer.id, refused);
        }
    }
    assert_eq!(fates.into_values().collect::<Vec<_>>(), [true, true, true, true, false, true]);
}

#[tokio::test]
async fn a_watch_without_sense_ends_the_lane() {
    let site = Site::new(1, leader(1)).await;
    let (later, mut answers) = lane(&site, hello(1)).await.unwrap();
    later.send(requests([Some(Ask::Watch(WatchAsk::default()))])).await.unwrap();
    let ended = async {
        loop {
            match answers.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(status) => return Some(status.code()),
            }
        }
    };
    assert_eq!(timeout(SOON, ended).await.unwrap(), Some(Code::InvalidArgument));
}

#[tokio::test]
async fn a_second_lane_of_a_proxy_ends_the_first_one() {
    let site = Site::new(1, leader(1)).await;
    let (_later, mut first) = lane(&site, hello(1)).await.unwrap();
    assert!(timeout(SOON, first.message()).await.unwrap().unwrap().unwrap().welcome.is_some());
    let (_again, mut second) = lane(&site, hello(1)).await.unwrap();
    assert!(timeout(SOON, second.message()).await.unwrap().unwrap().unwrap().welcome.is_some());
    assert_eq!(timeout(SOON, first.message()).await.unwrap().unwrap(), None);
}

#[tokio::test]
async fn what_a_lane_did_not_take_goes_back() {
    let site = Site::new(1, leader(1)).await;
    let body = vec![7_u8; 1 << 20];
    for sequence in 0..24 {
        site.engine.append(vec![append(0, sequence, body.clone())]).await.unwrap();
    }
    let (later, answers) = lane(&site, hello(1)).await.unwrap();
    later.send(requests((0..24).map(|_| Some(Ask::Pop((&receive(1)).into()))))).await.unwrap();
    // Nobody reads the answers: the transport takes what fits into its windows, the rest waits.
    let in_flight = || async {
        let groups = site.engine.group_status(GroupId(1)).await.unwrap();
        groups.iter().map(|it| it.in_flight).sum::<u64>()
    };
    timeout(SOON, async {
        while in_flight().await < 8 {
            tokio::task::yield_now().await
        }
    })
    .await
    .unwrap();
    drop((later, answers));
    let given_back = async {
        loop {
            if let Some(found) = site.engine.pop(receive(1)).await.unwrap().messages.pop() {
                site.engine.settle(found.key, Settlement::Ack).await.unwrap();
                return found.attempt.0;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    assert_eq!(timeout(SOON, given_back).await.unwrap(), 1);
}

#[tokio::test]
async fn an_unknown_delivery_is_stale() {
    let site = Site::new(1, leader(1)).await;
    let (later, mut answers) = lane(&site, hello(1)).await.unwrap();
    let key = apogee_model::store::DeliveryKey {
        epoch: Epoch(9),
        group: GroupId(9),
        topic: TopicId(9),
        queue: QueueId(9),
        offset: QueueOffset(9),
        delivery: DeliverySeq(9),
    };
    later.send(requests([Some(Ask::Settle(SettleAsk::of(key, &Settlement::Ack)))])).await.unwrap();
    let answer = timeout(SOON, async {
        loop {
            let frame = answers.message().await.unwrap().unwrap();
            if let Some(answer) = frame.answers.into_iter().next() {
                return answer.result.unwrap();
            }
        }
    });
    assert!(matches!(answer.await.unwrap(), Answered::Settled(_)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn a_port_survives_rubbish(bytes in proptest::collection::vec(any::<u8>(), 1..400), preface in any::<bool>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let site = Site::new(1, leader(1)).await;
            let mut raw = tokio::net::TcpStream::connect(site.address).await.unwrap();
            if preface {
                raw.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
            }
            let _it_may_hang_up = raw.write_all(&bytes).await;
            let _it_may_hang_up = raw.shutdown().await;
            let mut answer = Vec::new();
            let _whatever_it_says = timeout(SOON, raw.read_to_end(&mut answer)).await.expect("it hangs up");
            let (_later, mut answers) = lane(&site, hello(1)).await.unwrap();
            assert!(answers.message().await.unwrap().unwrap().welcome.is_some(), "others are served");
        });
    }
}
