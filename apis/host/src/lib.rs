//! The process kit and the seams: what every role needs before it does anything of its own.
//!
//! Invariant: knows no role, no protocol and no storage format. It is the one crate that may ask the operating system
//! for time, randomness, threads, tasks, files, ports and the environment; everybody else is handed a seam.
//!
//! Reading order: the seams (`clock`, `entropy`, `disk`, `lane`, `tasks`, `consensus`), then the life of a process
//! (`config`, `telemetry`, `health`, `net`, `shutdown`).

pub mod clock;
pub mod config;
pub mod consensus;
pub mod disk;
pub mod entropy;
pub mod exit;
pub mod health;
pub mod identity;
pub mod lane;
pub mod net;
pub mod shutdown;
pub mod tasks;
pub mod telemetry;

pub use clock::{Clock, ManualClock, Monotonic, RealClock, TokioClock};
pub use disk::{Disk, DiskFuture, DiskOpenError, FileId, RealDisk, SimDisk};
pub use entropy::{Entropy, OsEntropy, SeededEntropy};
pub use exit::{Exit, ExitWith, Stop};
pub use identity::Identity;
pub use lane::Lane;
pub use tasks::{OnError, TaskFailure, Tasks};
