//! Who may sit down: connections in total and per address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts connections. Its map holds addresses with an open connection only, so the total bounds it.
#[derive(Debug)]
pub(super) struct Seats {
    total_max: usize,
    per_ip_max: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    per_ip: HashMap<IpAddr, usize>,
}

/// Why there was no seat.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoSeat {
    #[error("all {max} connections are taken")]
    Full { max: usize },
    #[error("all {max} connections of {ip} are taken")]
    FullForIp { ip: IpAddr, max: usize },
}

impl Seats {
    pub(super) fn new(total_max: usize, per_ip_max: usize) -> Arc<Seats> {
        Arc::new(Seats { total_max, per_ip_max, taken: Mutex::default() })
    }

    /// A seat until it is dropped. An IPv4 address is the same one when it arrives mapped into IPv6.
    pub(super) fn take(self: &Arc<Seats>, ip: IpAddr) -> Result<Seat, NoSeat> {
        let ip = ip.to_canonical();
        let mut taken = self.taken();
        if taken.total >= self.total_max {
            return Err(NoSeat::Full { max: self.total_max });
        }
        let of_ip = taken.per_ip.get(&ip).copied().unwrap_or(0);
        if of_ip >= self.per_ip_max {
            return Err(NoSeat::FullForIp { ip, max: self.per_ip_max });
        }
        taken.per_ip.insert(ip, of_ip + 1);
        taken.total += 1;
        Ok(Seat { seats: Arc::clone(self), ip })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one connection; free again when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    ip: IpAddr,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken();
        taken.total -= 1;
        match taken.per_ip.get_mut(&self.ip) {
            Some(of_ip) if *of_ip > 1 => *of_ip -= 1,
            _ => drop(taken.per_ip.remove(&self.ip)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn seats_are_counted_per_address_and_in_total() {
        let seats = Seats::new(3, 2);
        let _first = seats.take(ip("10.0.0.1")).expect("free");
        let second = seats.take(ip("::ffff:10.0.0.1")).expect("free");
        assert_eq!(seats.take(ip("10.0.0.1")).err(), Some(NoSeat::FullForIp { ip: ip("10.0.0.1"), max: 2 }));
        let _other = seats.take(ip("10.0.0.2")).expect("free");
        assert_eq!(seats.take(ip("10.0.0.3")).err(), Some(NoSeat::Full { max: 3 }));
        drop(second);
        assert!(seats.take(ip("10.0.0.1")).is_ok());
    }

    #[test]
    fn an_address_without_connections_is_forgotten() {
        let seats = Seats::new(3, 2);
        drop(seats.take(ip("10.0.0.1")).expect("free"));
        let taken = seats.taken();
        assert_eq!((taken.total, taken.per_ip.len()), (0, 0));
    }
}
