//! One address before several proxies: every connection goes to an arbitrary one that answers, as behind a Service of
//! Kubernetes.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use apogee_host::{Entropy, OsEntropy};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// First words that are kept until somebody answered them.
const WORDS_MAX: usize = 64 << 10;

/// Ends all connections when dropped.
#[derive(Debug)]
pub struct Balancer {
    port: u16,
    /// Connections to each proxy so far.
    taken: Arc<Mutex<Vec<usize>>>,
    accepting: JoinHandle<()>,
}

impl Balancer {
    /// Listens on a port of the operating system's choice, in front of these ports of 127.0.0.1.
    pub async fn start(proxies: Vec<u16>) -> std::io::Result<Balancer> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let taken = Arc::new(Mutex::new(vec![0; proxies.len()]));
        let counts = Arc::clone(&taken);
        #[expect(clippy::disallowed_methods, reason = "a test has no tasks of its own")]
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                connections.spawn(carry(client, proxies.clone(), Arc::clone(&counts)));
            }
        });
        Ok(Balancer { port, taken, accepting })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Connections to each proxy so far.
    pub fn taken(&self) -> Vec<usize> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Carries bytes both ways until one side ends.
async fn carry(mut client: TcpStream, proxies: Vec<u16>, taken: Arc<Mutex<Vec<usize>>>) {
    let Some((mut proxy, at)) = taken_by(&mut client, &proxies).await else { return };
    taken.lock().unwrap_or_else(PoisonError::into_inner)[at] += 1;
    let _either_may_end = copy_bidirectional(&mut client, &mut proxy).await;
}

/// Lets an arbitrary proxy answer the first words of a client. One that dies may take a connection and never answer.
async fn taken_by(client: &mut TcpStream, proxies: &[u16]) -> Option<(TcpStream, usize)> {
    client.set_nodelay(true).ok()?;
    let mut words = vec![0; WORDS_MAX];
    let said = client.read(&mut words).await.ok().filter(|said| *said > 0)?;
    let from = usize::try_from(OsEntropy.next_u64() % 1024).unwrap_or_default();
    for at in (0..proxies.len()).map(|step| (from + step) % proxies.len()) {
        if let Ok((proxy, answer)) = ask(proxies[at], &words[..said]).await {
            client.write_all(&answer).await.ok()?;
            return Some((proxy, at));
        }
    }
    None
}

/// Says the first words to a proxy, and hears its own.
async fn ask(port: u16, words: &[u8]) -> std::io::Result<(TcpStream, Vec<u8>)> {
    let mut proxy = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
    proxy.set_nodelay(true)?;
    proxy.write_all(words).await?;
    let mut answer = vec![0; WORDS_MAX];
    let heard = proxy.read(&mut answer).await?;
    if heard == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    answer.truncate(heard);
    Ok((proxy, answer))
}
