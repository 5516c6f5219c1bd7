//! The machine under an engine: the disk as one process sees it.

mod disk;

pub use disk::ProcessDisk;
