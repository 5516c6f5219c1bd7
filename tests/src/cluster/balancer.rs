//! One address before several proxies: every connection goes to an arbitrary one that takes it, as behind a Service of
//! Kubernetes.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use apogee_host::{Entropy, OsEntropy};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

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
    let from = usize::try_from(OsEntropy.next_u64() % 1024).unwrap_or_default();
    for at in (0..proxies.len()).map(|step| (from + step) % proxies.len()) {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, proxies[at]));
        let Ok(mut proxy) = TcpStream::connect(address).await else { continue };
        taken.lock().unwrap_or_else(PoisonError::into_inner)[at] += 1;
        let _either_may_break_off = (client.set_nodelay(true), proxy.set_nodelay(true));
        let _either_may_end = copy_bidirectional(&mut client, &mut proxy).await;
        return;
    }
}
