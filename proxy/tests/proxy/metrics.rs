//! What an operator sees: the names and labels of the operations contract.

use apogee_proto::v2;

use crate::settings::{open, producer};
use crate::support::{from, message, sdk, world};

#[tokio::test(start_paused = true)]
async fn names_and_labels() {
    let mut world = world().await;
    let _stream = open(&mut world, "c", producer()).await;
    world.route("orders").await;
    world.send(vec![message("orders", "id", "12345")]).await;
    world.take("orders", "workers").await;
    world.ack("orders", "workers", &["rubbish"]).await;
    let heartbeat = v2::HeartbeatRequest { client_type: v2::ClientType::Producer.into(), group: None };
    world.client.heartbeat(from(" ", heartbeat)).await.unwrap();
    world.client.heartbeat(sdk(heartbeat_of_a_consumer())).await.unwrap();

    let scrape = world.scrape();
    for line in [
        r#"rocketmq_proxy_up{proxy_mode="cluster"} 1"#,
        r#"rocketmq_proxy_inflight_requests{method="Telemetry"} 1"#,
        r#"rocketmq_proxy_inflight_requests{method="SendMessage"} 0"#,
        r#"rocketmq_proxy_requests_total{code="20000",method="SendMessage"} 1"#,
        r#"rocketmq_proxy_requests_total{code="40013",method="AckMessage"} 1"#,
        r#"rocketmq_proxy_rejected_total{reason="client_id"} 1"#,
        r#"rocketmq_proxy_request_latency_count{method="QueryRoute"} 1"#,
        r#"rocketmq_proxy_telemetry_streams 1"#,
        r#"rocketmq_proxy_long_polls 0"#,
        r#"rocketmq_proxy_route_cache_age_ms 2500"#,
        r#"rocketmq_proxy_assignments_total{result="ok"} 0"#,
        r#"rocketmq_proxy_assignments_total{result="failed"} 0"#,
        r#"rocketmq_messages_in_total{is_system="false",message_type="normal",topic="orders"} 1"#,
        r#"rocketmq_message_size_bucket{message_type="normal",topic="orders",le="1024"} 1"#,
        r#"rocketmq_topic_number 2"#, // one of them for dead letters
        r#"rocketmq_consumer_group_number 1"#,
        r#"rocketmq_throughput_in_total{is_system="false",message_type="normal",topic="orders"} 5"#,
        r#"rocketmq_messages_out_total{consumer_group="workers",is_retry="false",is_system="false",topic="orders"} 1"#,
        r#"rocketmq_throughput_out_total{consumer_group="workers",is_retry="false",is_system="false",topic="orders"} 5"#,
        r#"rocketmq_producer_connections{language="java",protocol_type="grpc",version="5.0.7"} 1"#,
        r#"rocketmq_consumer_connections{consume_mode="push",consumer_group="workers",is_system="false",language="java",protocol_type="grpc",version="5.0.7"} 1"#,
        r#"rocketmq_rpc_latency_count{is_long_polling="false",protocol_type="grpc",request_code="AckMessage",response_code="INVALID_RECEIPT_HANDLE",result="client_error"} 1"#,
    ] {
        assert!(scrape.lines().any(|found| found == line), "no {line} in\n{scrape}");
    }
}

fn heartbeat_of_a_consumer() -> v2::HeartbeatRequest {
    v2::HeartbeatRequest {
        client_type: v2::ClientType::PushConsumer.into(),
        group: crate::support::resource("workers"),
    }
}
