//! What the roles of this binary have in common before they differ: configuration, data folder, ports, the life of
//! the process, and the ports of a proxy.

pub(crate) mod cluster;
pub(crate) mod config;
pub(crate) mod data;
pub(crate) mod front;
pub(crate) mod ports;
pub(crate) mod retention;
pub(crate) mod shell;
