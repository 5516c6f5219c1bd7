//! The network seam on the side of the server.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

/// Connections the operating system accepts before we do.
const BACKLOG: u32 = 1024;

/// Binds `addr` and listens. The port of a process that just ended can be taken over (`SO_REUSEADDR`).
///
/// # Errors
/// Those of `bind`: [`io::ErrorKind::AddrInUse`], [`io::ErrorKind::PermissionDenied`] and the like.
///
/// # Panics
/// Outside a tokio runtime.
pub fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[tokio::test]
    async fn a_port_is_taken_once() {
        let listener = listen((Ipv4Addr::LOCALHOST, 0).into()).expect("some port is free");
        let taken = listen(listener.local_addr().expect("a listener has an address"));
        assert_eq!(taken.map_err(|error| error.kind()).err(), Some(io::ErrorKind::AddrInUse));
    }
}
