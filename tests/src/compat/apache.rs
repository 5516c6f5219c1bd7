//! Apache RocketMQ as its users run it: namesrv, broker and proxy, on loopback, in a temporary folder.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::remoting;
use super::target::{GroupShape, TopicKind};
use crate::cluster::free_ports;
use crate::sdk::compat_env;

/// A Java machine on a busy computer takes its time.
const START_MAX: Duration = Duration::from_secs(180);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What its stores need of Java 17.
const OPENED: [&str; 4] = [
    "--add-exports=java.base/jdk.internal.ref=ALL-UNNAMED",
    "--add-exports=java.base/sun.nio.ch=ALL-UNNAMED",
    "--add-opens=java.base/java.nio=ALL-UNNAMED",
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
];

/// Codes of the remoting protocol.
const UPDATE_TOPIC: u32 = 17;
const UPDATE_GROUP: u32 = 200;

/// A running cluster of one each. Killed when dropped.
pub struct Apache {
    broker: u16,
    proxy: u16,
    children: Vec<Child>,
    folder: TempDir,
}

impl Apache {
    /// Starts all three and waits until they listen.
    ///
    /// # Errors
    /// When one ends, or does not listen within three minutes; with the end of what it printed.
    pub async fn start() -> anyhow::Result<Apache> {
        let folder = tempfile::tempdir()?;
        let [namesrv, broker, replication, proxy, remoting] = free_ports()?;
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("conf"))?;
        std::fs::write(at("namesrv.conf"), format!("listenPort={namesrv}\nbindAddress=127.0.0.1\n"))?;
        std::fs::write(at("broker.conf"), broker_conf(folder.path(), namesrv, broker, replication))?;
        let proxy_conf = json!({
            "rocketMQClusterName": "DefaultCluster", "namesrvAddr": format!("127.0.0.1:{namesrv}"), "proxyMode": "CLUSTER",
            "grpcServerPort": proxy, "remotingListenPort": remoting, "localServeAddr": "127.0.0.1",
        });
        std::fs::write(at("conf/rmq-proxy.json"), proxy_conf.to_string())?;

        let mut apache = Apache { broker, proxy, children: Vec::new(), folder };
        let config = |name: &str| at_text(apache.folder.path(), name);
        let (names, stores, proxies) =
            (config("namesrv.conf")?, config("broker.conf")?, config("conf/rmq-proxy.json")?);
        apache
            .launch("namesrv", "512m", &["org.apache.rocketmq.namesrv.NamesrvStartup", "-c", &names], namesrv)
            .await?;
        apache.launch("broker", "1536m", &["org.apache.rocketmq.broker.BrokerStartup", "-c", &stores], broker).await?;
        let args = ["org.apache.rocketmq.proxy.ProxyStartup", "-pm", "CLUSTER", "-pc", &proxies];
        apache.launch("proxy", "1g", &args, proxy).await?;
        Ok(apache)
    }

    /// Where the proxy listens for SDKs.
    pub fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.proxy)
    }

    /// Ends all three, the last one first.
    pub async fn stop(&mut self) -> std::io::Result<()> {
        while let Some(mut child) = self.children.pop() {
            child.kill().await?;
        }
        Ok(())
    }

    pub(super) async fn create_topic(&self, name: &str, kind: TopicKind, queues: u32) -> anyhow::Result<()> {
        let queues = queues.to_string();
        let fields = json!({
            "topic": name, "defaultTopic": "TBW102", "readQueueNums": queues, "writeQueueNums": queues, "perm": "6",
            "topicFilterType": "SINGLE_TAG", "topicSysFlag": "0", "order": "false",
            "attributes": format!("+message.type={}", kind.name().to_uppercase()),
        });
        remoting::ask(self.broker, UPDATE_TOPIC, fields, &[]).await
    }

    pub(super) async fn create_group(&self, name: &str, shape: GroupShape) -> anyhow::Result<()> {
        self.update_group(name, shape, json!({})).await
    }

    pub(super) async fn create_lite_group(&self, name: &str, topic: &str, exclusive: bool) -> anyhow::Result<()> {
        let model = if exclusive { "Exclusive" } else { "Shared" };
        let shape = GroupShape { fifo: true, ..GroupShape::default() };
        self.update_group(name, shape, json!({ "+lite.bind.topic": topic, "+lite.sub.model": model })).await
    }

    async fn update_group(&self, name: &str, shape: GroupShape, attributes: Value) -> anyhow::Result<()> {
        let config = json!({
            "groupName": name, "consumeEnable": true, "consumeFromMinEnable": true, "consumeBroadcastEnable": true,
            "consumeMessageOrderly": shape.fifo, "retryQueueNums": 1, "retryMaxTimes": shape.max_attempts - 1,
            "brokerId": 0, "whichBrokerWhenConsumeSlowly": 1, "notifyConsumerIdsChangedEnable": true,
            "attributes": attributes,
        });
        remoting::ask(self.broker, UPDATE_GROUP, json!({}), &serde_json::to_vec(&config)?).await
    }

    /// Starts one Java process and waits until it listens on `port`.
    async fn launch(&mut self, name: &str, heap: &str, args: &[&str], port: u16) -> anyhow::Result<()> {
        let folder = self.folder.path();
        let log = std::fs::File::create(folder.join(format!("{name}.log")))?;
        let mut child = Command::new("java")
            .args(OPENED)
            .args([&format!("-Xms{heap}"), &format!("-Xmx{heap}"), "-XX:+UseSerialGC", "-XX:MaxDirectMemorySize=1g"])
            .arg(format!("-Duser.home={}", folder.display()))
            .args(["-cp", &format!("{}/reference/jars/*", compat_env()?.display())])
            .args(args)
            .env("ROCKETMQ_HOME", folder)
            .env("RMQ_PROXY_HOME", folder)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("starting java")?;
        let printed = || std::fs::read_to_string(folder.join(format!("{name}.log"))).unwrap_or_default();
        let deadline = Instant::now() + START_MAX;
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            if let Some(status) = child.try_wait()? {
                bail!("the {name} ended with {status}:\n{}", printed());
            }
            if Instant::now() > deadline {
                bail!("the {name} does not listen:\n{}", printed());
            }
            sleep(LOOK_EVERY).await;
        }
        self.children.push(child);
        Ok(())
    }
}

fn broker_conf(folder: &Path, namesrv: u16, broker: u16, replication: u16) -> String {
    let store = folder.join("store");
    let store = store.display();
    format!(
        "brokerClusterName=DefaultCluster\nbrokerName=broker-0\nbrokerId=0\nbrokerIP1=127.0.0.1\n\
         namesrvAddr=127.0.0.1:{namesrv}\nlistenPort={broker}\nhaListenPort={replication}\n\
         storePathRootDir={store}\nstorePathCommitLog={store}/commitlog\nmappedFileSizeCommitLog=67108864\n\
         diskMaxUsedSpaceRatio=95\nautoCreateTopicEnable=false\nautoCreateSubscriptionGroup=false\n\
         enablePropertyFilter=true\nrecallMessageEnable=true\nenableMixedMessageType=true\n\
         enableLmq=true\nenableMultiDispatch=true\nbrokerFastFailureEnable=false\nosPageCacheBusyTimeOutMills=30000\n"
    )
}

fn at_text(folder: &Path, name: &str) -> anyhow::Result<String> {
    folder.join(name).into_os_string().into_string().map_err(|name| anyhow::anyhow!("{name:?} is no text"))
}
