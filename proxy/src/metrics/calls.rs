//! Calls by method: how many run, how they ended, how long they took.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use apogee_proto::v2::Code;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Histogram, Meter};

/// The RPCs of `MessagingService`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rpc {
    QueryRoute,
    Heartbeat,
    SendMessage,
    QueryAssignment,
    ReceiveMessage,
    AckMessage,
    ForwardMessageToDeadLetterQueue,
    PullMessage,
    UpdateOffset,
    GetOffset,
    QueryOffset,
    EndTransaction,
    Telemetry,
    NotifyClientTermination,
    ChangeInvisibleDuration,
    RecallMessage,
    SyncLiteSubscription,
}

const RPCS: [(Rpc, &str); 17] = [
    (Rpc::QueryRoute, "QueryRoute"),
    (Rpc::Heartbeat, "Heartbeat"),
    (Rpc::SendMessage, "SendMessage"),
    (Rpc::QueryAssignment, "QueryAssignment"),
    (Rpc::ReceiveMessage, "ReceiveMessage"),
    (Rpc::AckMessage, "AckMessage"),
    (Rpc::ForwardMessageToDeadLetterQueue, "ForwardMessageToDeadLetterQueue"),
    (Rpc::PullMessage, "PullMessage"),
    (Rpc::UpdateOffset, "UpdateOffset"),
    (Rpc::GetOffset, "GetOffset"),
    (Rpc::QueryOffset, "QueryOffset"),
    (Rpc::EndTransaction, "EndTransaction"),
    (Rpc::Telemetry, "Telemetry"),
    (Rpc::NotifyClientTermination, "NotifyClientTermination"),
    (Rpc::ChangeInvisibleDuration, "ChangeInvisibleDuration"),
    (Rpc::RecallMessage, "RecallMessage"),
    (Rpc::SyncLiteSubscription, "SyncLiteSubscription"),
];

impl Rpc {
    pub(crate) fn name(self) -> &'static str {
        RPCS[self as usize].1
    }

    /// The RPC an HTTP/2 path (`/package.Service/Name`) asks for.
    pub(crate) fn of_path(path: &str) -> Option<Self> {
        let (_, name) = path.rsplit_once('/')?;
        RPCS.iter().find(|(_, known)| *known == name).map(|(rpc, _)| *rpc)
    }
}

/// Refusals before any work was done, by reason.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    ClientId,
    Overload,
}

const REJECTIONS: [&str; 2] = ["client_id", "overload"];

pub(crate) struct Calls {
    shared: Arc<Shared>,
    request_latency: Histogram<f64>,
    rpc_latency: Histogram<f64>,
}

struct Shared {
    methods: [Method; RPCS.len()],
    rejected: [AtomicU64; REJECTIONS.len()],
    /// Every code there is, ascending.
    codes: Vec<Code>,
}

struct Method {
    running: AtomicI64,
    labels: [KeyValue; 1],
    /// In the order of `Shared::codes`.
    outcomes: Vec<Outcome>,
}

#[derive(Default)]
struct Outcome {
    count: AtomicU64,
    /// Made when first needed: most pairs of method and code never happen.
    latency_labels: OnceLock<[KeyValue; 5]>,
}

/// One running call, until dropped.
pub(crate) struct Running {
    shared: Arc<Shared>,
    rpc: Rpc,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.methods[self.rpc as usize].running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Calls {
    pub(super) fn new(meter: &Meter) -> Self {
        let shared = Arc::new(Shared::new());
        shared.observe(meter);
        let latency = |name, bounds: &[f64]| meter.f64_histogram(name).with_boundaries(bounds.to_vec()).build();
        Self {
            shared,
            request_latency: latency(
                "rocketmq_proxy_request_latency",
                &[0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 500.0, 1000.0, 5000.0, 20000.0],
            ),
            rpc_latency: latency("rocketmq_rpc_latency", &[1.0, 3.0, 5.0, 7.0, 10.0, 100.0, 1000.0, 2000.0, 3000.0]),
        }
    }

    /// Counts a call as running until the guard is dropped.
    pub(crate) fn running(&self, rpc: Rpc) -> Running {
        self.shared.methods[rpc as usize].running.fetch_add(1, Ordering::Relaxed);
        Running { shared: Arc::clone(&self.shared), rpc }
    }

    /// Counts an answer.
    pub(crate) fn answered(&self, rpc: Rpc, code: Code, took: Duration) {
        let method = &self.shared.methods[rpc as usize];
        let Ok(at) = self.shared.codes.binary_search(&code) else { return };
        let outcome = &method.outcomes[at];
        outcome.count.fetch_add(1, Ordering::Relaxed);
        let millis = took.as_secs_f64() * 1e3;
        self.request_latency.record(millis, &method.labels);
        self.rpc_latency.record(millis, outcome.latency_labels.get_or_init(|| latency_labels(rpc, code)));
    }

    /// Counts a refusal at the door.
    pub(crate) fn rejected(&self, why: Rejection) {
        self.shared.rejected[why as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// Whether a failure with this code is the server's.
pub(crate) fn ours(code: Code) -> bool {
    i32::from(code) / 10_000 == 5 && code != Code::NotImplemented
}

fn latency_labels(rpc: Rpc, code: Code) -> [KeyValue; 5] {
    let result = match i32::from(code) / 10_000 {
        2 | 3 => "success",
        4 if code == Code::MessageNotFound => "success",
        _ if ours(code) => "server_error",
        4 | 5 => "client_error",
        _ => "server_error",
    };
    [
        KeyValue::new("protocol_type", "grpc"),
        KeyValue::new("request_code", rpc.name()),
        KeyValue::new("response_code", code.as_str_name()),
        KeyValue::new("is_long_polling", rpc == Rpc::ReceiveMessage),
        KeyValue::new("result", result),
    ]
}

impl Shared {
    fn new() -> Self {
        let codes: Vec<Code> = (0..=i32::from(u16::MAX)).filter_map(|number| Code::try_from(number).ok()).collect();
        let method = |(_, name): (Rpc, &'static str)| Method {
            running: AtomicI64::new(0),
            labels: [KeyValue::new("method", name)],
            outcomes: codes.iter().map(|_| Outcome::default()).collect(),
        };
        Self { methods: RPCS.map(method), rejected: Default::default(), codes }
    }

    fn observe(self: &Arc<Self>, meter: &Meter) {
        let running = Arc::clone(self);
        meter
            .i64_observable_gauge("rocketmq_proxy_inflight_requests")
            .with_callback(move |gauge| {
                for method in &running.methods {
                    gauge.observe(method.running.load(Ordering::Relaxed), &method.labels);
                }
            })
            .build();
        let answered = Arc::clone(self);
        meter
            .u64_observable_counter("rocketmq_proxy_requests_total")
            .with_callback(move |counter| answered.each_answer(|count, labels| counter.observe(count, labels)))
            .build();
        let assigned = Arc::clone(self);
        meter
            .u64_observable_counter("rocketmq_proxy_assignments_total")
            .with_callback(move |counter| {
                for (result, count) in assigned.assignments() {
                    counter.observe(count, &[KeyValue::new("result", result)]);
                }
            })
            .build();
        let rejected = Arc::clone(self);
        meter
            .u64_observable_counter("rocketmq_proxy_rejected_total")
            .with_callback(move |counter| {
                for (count, reason) in rejected.rejected.iter().zip(REJECTIONS) {
                    counter.observe(count.load(Ordering::Relaxed), &[KeyValue::new("reason", reason)]);
                }
            })
            .build();
    }

    /// Answers to QueryAssignment.
    fn assignments(&self) -> [(&'static str, u64); 2] {
        let outcomes = &self.methods[Rpc::QueryAssignment as usize].outcomes;
        let (mut ok, mut failed) = (0, 0);
        for (outcome, code) in outcomes.iter().zip(&self.codes) {
            let counted = if *code == Code::Ok { &mut ok } else { &mut failed };
            *counted += outcome.count.load(Ordering::Relaxed);
        }
        [("ok", ok), ("failed", failed)]
    }

    fn each_answer(&self, mut tell: impl FnMut(u64, &[KeyValue])) {
        for method in &self.methods {
            for (outcome, code) in method.outcomes.iter().zip(&self.codes) {
                let count = outcome.count.load(Ordering::Relaxed);
                if count > 0 {
                    tell(count, &[method.labels[0].clone(), KeyValue::new("code", i64::from(i32::from(*code)))]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enum() {
        for (index, (rpc, _)) in RPCS.into_iter().enumerate() {
            assert_eq!(rpc as usize, index);
        }
    }

    #[test]
    fn a_path_names_an_rpc() {
        let path = "/apache.rocketmq.v2.MessagingService/AckMessage";
        assert_eq!(Rpc::of_path(path), Some(Rpc::AckMessage));
        assert_eq!(["", "AckMessage", "/a/Ackmessage"].map(Rpc::of_path), [None; 3]);
    }

    #[test]
    fn what_is_not_served_yet_is_no_failure_of_the_server() {
        let result = |code| latency_labels(Rpc::EndTransaction, code)[4].value.as_str().into_owned();
        assert_eq!(result(Code::NotImplemented), "client_error");
        assert_eq!(result(Code::InternalServerError), "server_error");
        assert_eq!(result(Code::MultipleResults), "success");
    }

    #[test]
    fn every_code_has_a_place() {
        let shared = Shared::new();
        assert_eq!(shared.codes.len(), 54);
        assert!(shared.codes.is_sorted());
        assert!(shared.codes.binary_search(&Code::FailedToConsumeMessage).is_ok());
    }
}
