//! What a namesrv tells about itself.

use apogee_model::NodeStanding;
use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use crate::server::Namesrv;

impl Namesrv {
    /// Shows this member in metrics for as long as the meter lives.
    pub fn observe(&self, meter: &Meter) {
        let namesrv = self.clone();
        let leads = move || u64::from(namesrv.consensus().is_ok_and(|consensus| consensus.leads()));
        gauge(meter, "rocketmq_namesrv_raft_is_leader", leads);
        let namesrv = self.clone();
        gauge(meter, "rocketmq_namesrv_raft_term", move || namesrv.consensus().map_or(0, |consensus| consensus.term()));
        let namesrv = self.clone();
        let committed = move || namesrv.consensus().map_or(0, |consensus| consensus.applied());
        gauge(meter, "rocketmq_namesrv_raft_commit_index", committed);
        let namesrv = self.clone();
        gauge(meter, "rocketmq_namesrv_route_version", move || namesrv.cluster().map_or(0, |cluster| cluster.version));
        let namesrv = self.clone();
        meter
            .u64_observable_gauge("rocketmq_namesrv_nodes")
            .with_callback(move |gauge| {
                let cluster = namesrv.cluster();
                for (standing, name) in STANDINGS {
                    let nodes = cluster.iter().flat_map(|cluster| cluster.nodes.values());
                    let count = nodes.filter(|node| node.standing == standing).count();
                    gauge.observe(u64::try_from(count).unwrap_or(u64::MAX), &[KeyValue::new("state", name)]);
                }
            })
            .build();
    }
}

const STANDINGS: [(NodeStanding, &str); 3] =
    [(NodeStanding::Alive, "alive"), (NodeStanding::Suspect, "suspect"), (NodeStanding::Draining, "draining")];

fn gauge(meter: &Meter, name: &'static str, value: impl Fn() -> u64 + Send + Sync + 'static) {
    meter.u64_observable_gauge(name).with_callback(move |gauge| gauge.observe(value(), &[])).build();
}
