//! Producers and consumers with all the habits of real ones, and what they note about it.
//!
//! They know a [`Door`] only, so the same clients talk to an engine beside them and to a cluster far away.
//!
//! Reading order: `dice` (seeded choices), `payload` (messages that say who they are), `door` (what can be asked),
//! `site` (asking, with a note in the history), `habits`, `transactions`, `lite` and `reader` (who asks what and when).

mod dice;
mod door;
mod habits;
mod lite;
pub mod payload;
mod reader;
mod site;
mod transactions;

pub use dice::Dice;
pub use door::{Door, NoAnswer};
pub use habits::{Consumer, Producer, Sizes};
pub use lite::{LiteConsumer, LiteProducer};
pub use reader::Reader;
pub use site::{Over, Patience, Receive, Site, Tempo};
pub use transactions::Asked;
