//! Whom a scenario is asked of.

use std::time::Duration;

use anyhow::{bail, ensure};
use apogee_proto::v2;
use tokio::time::{Instant, sleep};

use super::apache::Apache;
use super::client::Client;
use crate::server::{Options, Server};

/// Longest wait until clients see a new topic.
const SEEN_MAX: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A running system, with nothing in it that a scenario did not make.
pub enum Target {
    Ours(Box<Server>),
    Apache(Apache),
}

/// What a topic's messages may ask for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum TopicKind {
    Normal,
    Fifo,
    Delay,
    Transaction,
    Mixed,
    Priority,
    Lite,
}

/// What a group is like.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct GroupShape {
    pub fifo: bool,
    /// Deliveries before a message is a dead letter.
    pub max_attempts: u32,
}

impl Default for GroupShape {
    fn default() -> GroupShape {
        GroupShape { fifo: false, max_attempts: 17 }
    }
}

impl TopicKind {
    pub const ALL: [TopicKind; 7] = [
        TopicKind::Normal,
        TopicKind::Fifo,
        TopicKind::Delay,
        TopicKind::Transaction,
        TopicKind::Mixed,
        TopicKind::Priority,
        TopicKind::Lite,
    ];

    /// Its name on the command line; in capitals, on the wire.
    pub fn name(self) -> &'static str {
        match self {
            TopicKind::Normal => "normal",
            TopicKind::Fifo => "fifo",
            TopicKind::Delay => "delay",
            TopicKind::Transaction => "transaction",
            TopicKind::Mixed => "mixed",
            TopicKind::Priority => "priority",
            TopicKind::Lite => "lite",
        }
    }
}

impl Target {
    /// `apogee dev`, which creates nothing by itself.
    pub async fn ours() -> anyhow::Result<Target> {
        Ok(Target::Ours(Box::new(Server::start(Options { no_auto_create: true, ..Options::default() }).await?)))
    }

    /// Apache RocketMQ, which creates nothing by itself.
    pub async fn apache() -> anyhow::Result<Target> {
        Ok(Target::Apache(Apache::start().await?))
    }

    /// Where clients connect to.
    pub fn endpoint(&self) -> String {
        match self {
            Target::Ours(server) => server.endpoint(),
            Target::Apache(apache) => apache.endpoint(),
        }
    }

    /// Creates a topic and waits until a client can see it.
    pub async fn create_topic(&self, name: &str, kind: TopicKind, queues: u32) -> anyhow::Result<()> {
        match self {
            Target::Ours(server) => {
                let count = queues.to_string();
                let ran = server.cli(&["topic", "create", name, "--type", kind.name(), "--queues", &count]).await?;
                ensure!(ran.code == 0, "{ran:?}");
            }
            Target::Apache(apache) => apache.create_topic(name, kind, queues).await?,
        }
        let client = Client::new(&self.endpoint(), "compat-setup")?;
        let deadline = Instant::now() + SEEN_MAX;
        loop {
            let route = client.route(name).await;
            match route.as_ref().ok().and_then(|route| route.status.as_ref()) {
                Some(status) if status.code() == v2::Code::Ok => return Ok(()),
                _ if Instant::now() > deadline => bail!("topic {name} is not to be seen: {route:?}"),
                _ => sleep(LOOK_EVERY).await,
            }
        }
    }

    pub async fn create_group(&self, name: &str, shape: GroupShape) -> anyhow::Result<()> {
        match self {
            Target::Ours(server) => {
                let attempts = shape.max_attempts.to_string();
                let order = if shape.fifo { "fifo" } else { "concurrent" };
                let ran = server.cli(&["group", "create", name, "--order", order, "--max-attempts", &attempts]).await?;
                ensure!(ran.code == 0, "{ran:?}");
                Ok(())
            }
            Target::Apache(apache) => apache.create_group(name, shape).await,
        }
    }

    /// A group whose clients subscribe to lite topics of a topic.
    pub async fn create_lite_group(&self, name: &str, topic: &str, exclusive: bool) -> anyhow::Result<()> {
        match self {
            Target::Ours(server) => {
                let model = if exclusive { "exclusive" } else { "shared" };
                let group = ["group", "create", name, "--order", "fifo", "--lite-topic", topic, "--lite-model", model];
                let ran = server.cli(&group).await?;
                ensure!(ran.code == 0, "{ran:?}");
                Ok(())
            }
            Target::Apache(apache) => apache.create_lite_group(name, topic, exclusive).await,
        }
    }
}
