//! `bench machine`: what the disk and the loopback of this machine take by themselves, to compare latencies with.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::json;
use tempfile::tempfile_in;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::args::Machine;
use crate::tally::Tally;

const FILE: usize = 16 << 20;
/// A message of 1 KiB and what is around it.
const WRITE: usize = 2 << 10;
const TIMES: usize = 1_000;

/// What was measured.
pub(crate) struct Figures {
    fdatasync: Histogram<u64>,
    round_trip: Histogram<u64>,
}

pub(crate) async fn run(machine: &Machine) -> anyhow::Result<Figures> {
    Ok(Figures { fdatasync: fdatasync(&machine.folder)?, round_trip: round_trip().await? })
}

/// Writes into a file whose blocks are there already, as into a segment, each with its own fdatasync.
fn fdatasync(folder: &Path) -> anyhow::Result<Histogram<u64>> {
    let mut file: File = tempfile_in(folder)?;
    file.write_all(&vec![0; FILE])?;
    file.sync_all()?;
    let (mut tally, block) = (Tally::new(), vec![1; WRITE]);
    for at in 0..TIMES {
        let begun = Instant::now();
        file.write_all_at(&block, u64::try_from(at * WRITE)?)?;
        file.sync_data()?;
        tally.count(begun, Instant::now());
    }
    Ok(tally.latencies)
}

/// As many bytes there and back over TCP.
async fn round_trip() -> anyhow::Result<Histogram<u64>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let mut echo = JoinSet::new();
    echo.spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let mut bytes = vec![0; WRITE];
        for _ in 0..TIMES {
            stream.read_exact(&mut bytes).await?;
            stream.write_all(&bytes).await?;
        }
        std::io::Result::Ok(())
    });
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut tally, mut bytes) = (Tally::new(), vec![0; WRITE]);
    for _ in 0..TIMES {
        let begun = Instant::now();
        stream.write_all(&bytes).await?;
        stream.read_exact(&mut bytes).await?;
        tally.count(begun, Instant::now());
    }
    Ok(tally.latencies)
}

impl Figures {
    pub(crate) fn text(&self) -> String {
        let [fdatasync, round_trip] = self.medians();
        format!("fdatasync      p50 {fdatasync:.3} ms\nround trip     p50 {round_trip:.3} ms")
    }

    pub(crate) fn json(&self) -> String {
        let [fdatasync, round_trip] = self.medians();
        json!({ "fdatasync_p50_ms": fdatasync, "round_trip_p50_ms": round_trip }).to_string()
    }

    /// In milliseconds.
    fn medians(&self) -> [f64; 2] {
        let median = |times: &Histogram<u64>| Duration::from_micros(times.value_at_quantile(0.5)).as_secs_f64() * 1e3;
        [median(&self.fdatasync), median(&self.round_trip)]
    }
}
