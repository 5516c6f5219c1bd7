//! Ports for processes that end and come back on the same ones.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Mutex, PoisonError};

use anyhow::ensure;
use apogee_host::{Entropy, OsEntropy};

/// Below those that the system gives to connections by itself: one of those could take the port of a process while it
/// is down.
const RANGE: std::ops::Range<u16> = 10_240..32_000;
const TRIES: usize = 1_000;

/// Every port handed out: its process may not listen yet, or be down for a while.
static TAKEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// Some ports of 127.0.0.1 that nobody listens on, never the same one twice.
///
/// # Errors
/// When there are hardly any.
pub(crate) fn free<const COUNT: usize>() -> anyhow::Result<[u16; COUNT]> {
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut ports = [0; COUNT];
    let (mut found, mut tries) = (0, 0);
    while found < COUNT {
        ensure!(tries < TRIES, "only {found} of {COUNT} ports are free");
        tries += 1;
        let at = OsEntropy.next_u64() % u64::from(RANGE.end - RANGE.start);
        let port = RANGE.start + u16::try_from(at).expect("below a port");
        if !taken.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            taken.insert(port);
            ports[found] = port;
            found += 1;
        }
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_handed_out_twice() -> anyhow::Result<()> {
        let mut seen = BTreeSet::new();
        for _ in 0..500 {
            let ports: [u16; 4] = free()?;
            ensure!(ports.iter().all(|port| seen.insert(*port)), "one of {ports:?} came again");
        }
        Ok(())
    }
}
