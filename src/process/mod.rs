//! What the roles of this binary have in common before they differ: configuration, data folder, ports, the life of
//! the process.

pub(crate) mod config;
pub(crate) mod data;
pub(crate) mod ports;
pub(crate) mod retention;
pub(crate) mod shell;
