//! What the roles of this binary have in common before they differ: configuration, data folder, ports.

pub(crate) mod config;
pub(crate) mod data;
pub(crate) mod ports;
pub(crate) mod retention;
