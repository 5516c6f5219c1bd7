//! Ports for processes that end and come back on the same ones.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::ensure;
use apogee_host::{Entropy, OsEntropy};

/// Below those that the system gives to connections by itself: one of those could take the port of a process while it
/// is down.
const RANGE: std::ops::Range<u16> = 10_240..32_000;
const TRIES: usize = 1_000;

/// Some ports of 127.0.0.1 that nobody listens on.
///
/// # Errors
/// When there are hardly any.
pub(crate) fn free<const COUNT: usize>() -> anyhow::Result<[u16; COUNT]> {
    let mut held = Vec::with_capacity(COUNT);
    for _ in 0..TRIES {
        let at = OsEntropy.next_u64() % u64::from(RANGE.end - RANGE.start);
        let port = RANGE.start + u16::try_from(at).expect("below a port");
        held.extend(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(|listener| (port, listener)));
        if held.len() == COUNT {
            break;
        }
    }
    ensure!(held.len() == COUNT, "only {} of {COUNT} ports are free", held.len());
    let mut ports = [0; COUNT];
    ports.iter_mut().zip(&held).for_each(|(port, (free, _))| *port = *free);
    Ok(ports)
}
