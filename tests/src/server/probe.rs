//! Looking at a server from outside: the addresses it recorded, its small HTTP pages.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Ports;

/// Longest wait for one page.
const PAGE_MAX: Duration = Duration::from_secs(5);

/// An HTTP answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub code: u16,
    pub body: String,
}

/// One GET from 127.0.0.1.
pub async fn get(port: u16, path: &str) -> anyhow::Result<Answer> {
    timeout(PAGE_MAX, page(port, path)).await.context("no answer")?
}

/// The page `/metrics` as sums by name, all labels together.
pub async fn metrics(port: u16) -> anyhow::Result<BTreeMap<String, f64>> {
    let mut sums = BTreeMap::new();
    for line in get(port, "/metrics").await?.body.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').context("a sample is a name and a value")?;
        let name = series.split('{').next().unwrap_or(series);
        *sums.entry(name.to_owned()).or_default() += value.parse::<f64>()?;
    }
    Ok(sums)
}

async fn page(port: u16, path: &str) -> anyhow::Result<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let ask = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n");
    stream.write_all(ask.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let (head, body) = text.split_once("\r\n\r\n").context("an answer has a head")?;
    let code = head.split(' ').nth(1).context("a head has a code")?.parse()?;
    Ok(Answer { code, body: body.to_owned() })
}

/// The ports that process `pid` wrote into its state folder, once it did.
pub(super) fn recorded(state: &Path, pid: u32) -> Option<Ports> {
    let text = std::fs::read_to_string(state.join("apogee/dev.json")).ok()?;
    let record: Value = serde_json::from_str(&text).ok()?;
    let port = |key: &str| record[key].as_str()?.rsplit_once(':')?.1.parse().ok();
    (record["pid"] == pid).then_some(())?;
    Some(Ports {
        grpc: port("grpc_address")?,
        admin: port("admin_address")?,
        metrics: port("metrics_address")?,
        health: port("health_address")?,
    })
}
