//! What goes and what stays: retention, removal of segments, and starts from what is left.
//!
//! Reading order: `restart` (real files: views made anew, after kill -9 too), `power` (random lives on a simulated disk,
//! judged by a model), `site` (the words of both).

mod delayed;
mod power;
mod restart;
mod site;
