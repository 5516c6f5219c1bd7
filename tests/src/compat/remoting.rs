//! As much of the remoting protocol as it takes to create topics and groups in a broker of Apache RocketMQ.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest wait for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Larger answers are none of ours.
const FRAME_MAX: usize = 1 << 20;

/// Asks the broker on this port of 127.0.0.1.
///
/// # Errors
/// When it cannot be reached, or refuses; with its words.
pub(super) async fn ask(port: u16, code: u32, fields: Value, body: &[u8]) -> anyhow::Result<()> {
    timeout(ANSWER_MAX, exchange(port, code, fields, body)).await.context("no answer")?
}

async fn exchange(port: u16, code: u32, fields: Value, body: &[u8]) -> anyhow::Result<()> {
    let header = json!({
        "code": code, "extFields": fields, "flag": 0, "language": "JAVA", "opaque": 1,
        "serializeTypeCurrentRPC": "JSON", "version": 435,
    });
    let header = serde_json::to_vec(&header)?;
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    // The length of all that follows, then that of the header; its highest byte would say another encoding than JSON.
    stream.write_u32(u32::try_from(4 + header.len() + body.len())?).await?;
    stream.write_u32(u32::try_from(header.len())?).await?;
    stream.write_all(&header).await?;
    stream.write_all(body).await?;

    let length = usize::try_from(stream.read_u32().await?)?;
    ensure!((4..FRAME_MAX).contains(&length), "an answer of {length} bytes");
    let header_length = usize::try_from(stream.read_u32().await? & 0x00ff_ffff)?;
    let mut rest = vec![0; length - 4];
    stream.read_exact(&mut rest).await?;
    let header = rest.get(..header_length).context("a header longer than its answer")?;
    let answer: Value = serde_json::from_slice(header)?;
    ensure!(answer["code"] == 0, "code {}: {}", answer["code"], answer["remark"]);
    Ok(())
}
