//! Whole clusters in one thread: three replicas, their disks, clocks and network, their clients, and bad weather.
//!
//! One seed is one run. `SIM_SEED=n` runs one seed only and prints what happened, with the logs of the stores when
//! `SIM_LOG` says which (as `RUST_LOG` does); `make sim` runs as many as there is
//! time for (`SIM_SECONDS`), from `SIM_FROM` on.
//!
//! Reading order: `run` (one seed), `faults` (what happens), `cluster` and `machine` (to whom), `kernel`, `process`,
//! `wire` and `lanes` (how they run and speak), `steward` (who moves their replicas), `proxy` (how clients ask), `cases`
//! (what once went wrong elsewhere), `broken` (builds that must be caught), `seeds` (many of them, with `tally` and
//! `witness`, which see whether enough happened).

mod broken;
mod cases;
mod clock;
mod cluster;
mod faults;
mod kernel;
mod lanes;
mod machine;
mod process;
mod proxy;
mod rule;
mod run;
mod seeds;
mod steward;
mod tally;
mod wire;
mod witness;
