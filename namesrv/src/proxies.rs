//! Which proxies were heard: memory of the leader, for answers to people. A new leader has heard none yet, and nothing
//! that clients do depends on it.

use std::collections::BTreeMap;

use apogee_model::{MetadataError, NodeName, ProxyNode};
use tokio::time::Instant;

use crate::leases::LEASE;
use crate::server::{Namesrv, lock};

/// Proxies that are remembered.
const PROXIES_MAX: usize = 1000;
/// Longest address, in bytes: a DNS name and a port.
pub(crate) const ADDRESS_MAX: usize = 260;

/// Those heard, and when they were heard last.
#[derive(Debug, Default)]
pub(crate) struct Proxies {
    heard: BTreeMap<NodeName, (ProxyNode, Instant)>,
}

impl Proxies {
    /// A later life takes the place of an earlier one.
    fn hear(&mut self, proxy: ProxyNode, now: Instant) -> Result<(), MetadataError> {
        self.forget_silent(now);
        if self.heard.len() >= PROXIES_MAX && !self.heard.contains_key(&proxy.name) {
            return Err(MetadataError::Refused { why: format!("{PROXIES_MAX} proxies are known already") });
        }
        self.heard.insert(proxy.name.clone(), (proxy, now));
        Ok(())
    }

    /// The proxy stops. Nothing happens when that was an earlier life of it.
    fn leave(&mut self, proxy: &ProxyNode) {
        if self.heard.get(&proxy.name).is_some_and(|(known, _)| known.incarnation == proxy.incarnation) {
            self.heard.remove(&proxy.name);
        }
    }

    fn list(&mut self, now: Instant) -> Vec<ProxyNode> {
        self.forget_silent(now);
        self.heard.values().map(|(proxy, _)| proxy.clone()).collect()
    }

    fn forget_silent(&mut self, now: Instant) {
        self.heard.retain(|_, (_, heard)| now.duration_since(*heard) < LEASE);
    }
}

impl Namesrv {
    /// The proxy is there. One that is not heard for 10 s is forgotten.
    ///
    /// # Errors
    /// [`MetadataError::NotLeader`]; [`MetadataError::Refused`] when there are too many.
    pub fn hear_proxy(&self, proxy: ProxyNode) -> Result<(), MetadataError> {
        self.must_lead()?;
        lock(&self.shared().proxies).hear(proxy, Instant::now())
    }

    /// The proxy stops: it is forgotten at once.
    ///
    /// # Errors
    /// [`MetadataError::NotLeader`].
    pub fn forget_proxy(&self, proxy: &ProxyNode) -> Result<(), MetadataError> {
        self.must_lead()?;
        lock(&self.shared().proxies).leave(proxy);
        Ok(())
    }

    /// The proxies heard in the last 10 s, by name.
    ///
    /// # Errors
    /// [`MetadataError::NotLeader`].
    pub fn proxies(&self) -> Result<Vec<ProxyNode>, MetadataError> {
        self.must_lead()?;
        Ok(lock(&self.shared().proxies).list(Instant::now()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn proxy(name: &str, incarnation: u64) -> ProxyNode {
        let admin = format!("{name}:8088");
        ProxyNode { name: NodeName::parse(name).unwrap(), admin, incarnation }
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_silent_or_leaves_is_forgotten() {
        let (mut proxies, start) = (Proxies::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        proxies.hear(proxy("b", 1), at(0)).unwrap();
        proxies.hear(proxy("a", 1), at(0)).unwrap();
        proxies.hear(proxy("b", 2), at(5)).unwrap();
        assert_eq!(proxies.list(at(9)), [proxy("a", 1), proxy("b", 2)]);
        assert_eq!(proxies.list(at(10)), [proxy("b", 2)]);
        proxies.leave(&proxy("b", 1));
        assert_eq!(proxies.list(at(14)), [proxy("b", 2)], "an earlier life has nothing to say");
        proxies.leave(&proxy("b", 2));
        assert_eq!(proxies.list(at(14)), []);
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_room_for_some() {
        let (mut proxies, now) = (Proxies::default(), Instant::now());
        for n in 0..PROXIES_MAX {
            proxies.hear(proxy(&format!("p{n}"), 1), now).unwrap();
        }
        assert!(matches!(proxies.hear(proxy("late", 1), now), Err(MetadataError::Refused { .. })));
        proxies.hear(proxy("p7", 2), now).unwrap();
        proxies.hear(proxy("late", 1), now + LEASE).unwrap();
    }
}
