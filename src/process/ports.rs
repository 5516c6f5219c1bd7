//! Ports, bound before any heavy work: a taken port is known at once.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use apogee_host::{Exit, ExitWith, net};
use tokio::net::TcpListener;

/// A port that could not be bound.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PortError {
    #[error("port {} of {} is in use; stop what uses it, or choose another {key}", .address.port(), .address.ip())]
    Taken { key: &'static str, address: SocketAddr },
    #[error("{key}: {address} cannot be bound")]
    Unusable {
        key: &'static str,
        address: SocketAddr,
        #[source]
        cause: io::Error,
    },
}

impl ExitWith for PortError {
    fn exit(&self) -> Exit {
        match self {
            // A restart may help: whoever has the port may be on its way out.
            PortError::Taken { .. } => Exit::Dependency,
            PortError::Unusable { cause, .. } if cause.kind() == io::ErrorKind::PermissionDenied => Exit::Permission,
            PortError::Unusable { .. } => Exit::Usage,
        }
    }
}

/// One bound port.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) listener: TcpListener,
    /// As bound, with the port the operating system chose.
    pub(crate) address: SocketAddr,
}

impl Bound {
    /// Where a client on this machine finds the port.
    pub(crate) fn local(&self) -> SocketAddr {
        let ip = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        SocketAddr::new(ip, self.address.port())
    }
}

/// Binds one port.
///
/// # Panics
/// Outside a tokio runtime.
pub(crate) fn bind(key: &'static str, ip: IpAddr, port: u16) -> Result<Bound, PortError> {
    let wanted = SocketAddr::new(ip, port);
    let bound = net::listen(wanted).and_then(|listener| Ok(Bound { address: listener.local_addr()?, listener }));
    bound.map_err(|cause| match cause.kind() {
        io::ErrorKind::AddrInUse => PortError::Taken { key, address: wanted },
        _ => PortError::Unusable { key, address: wanted, cause },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_named_with_its_key() {
        let localhost = Ipv4Addr::LOCALHOST.into();
        let first = bind("admin.port", localhost, 0).expect("some port is free");
        let taken = first.address.port();
        let refused = bind("health.port", localhost, taken).map(|_| ()).unwrap_err();
        assert_eq!(refused.exit(), Exit::Dependency);
        let told = format!("port {taken} of 127.0.0.1 is in use; stop what uses it, or choose another health.port");
        assert_eq!(refused.to_string(), told);
    }

    #[tokio::test]
    async fn a_local_client_needs_a_real_address() {
        let bound = bind("grpc.port", Ipv4Addr::UNSPECIFIED.into(), 0).expect("some port is free");
        assert_eq!(bound.local().ip(), IpAddr::from(Ipv4Addr::LOCALHOST));
    }
}
