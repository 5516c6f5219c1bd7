//! From the rows of the views to a working set.

use std::ops::ControlFlow;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::{QueueState, State};
use crate::pop::PopStore as _;
use crate::record::QueueOf;
use crate::views::half;
use crate::views::rows::{self, GroupKey, Name};
use crate::views::{END, MemoryViews, Rows, Table, Views, ViewsError};

impl State {
    /// The state at the position of the views; the log after it is then applied. Gives the same as applying the log
    /// from its start.
    ///
    /// # Errors
    /// [`ViewsError`]. When the views are damaged, the next opening of their store does not use them.
    pub(crate) async fn open(views: Arc<dyn Views>) -> Result<Self, ViewsError> {
        let (send, loaded) = oneshot::channel();
        let read = views.read(Box::new(|rows| {
            let _nobody_waits = send.send(Self::load(rows));
        }));
        read.await?;
        let loaded = loaded.await.map_err(|_| ViewsError::Closed)?;
        let state = loaded.inspect_err(|error| {
            if let ViewsError::Damaged { why } = error {
                views.distrust(why);
            }
        })?;
        Ok(Self { reader: super::places::ViewReader::new(views), ..state })
    }

    /// Over views that are replaced before anybody reads the ConsumeQueue.
    fn load(views: &dyn Rows) -> Result<Self, ViewsError> {
        let mut state = Self::at(views.position()?, Arc::new(MemoryViews::default()));
        for table in Table::ALL {
            let mut bad = false;
            let mut visit = |key: &[u8], row: &[u8]| {
                if state.load_row(table, key, row).is_some() {
                    return ControlFlow::Continue(());
                }
                bad = true;
                ControlFlow::Break(())
            };
            if !matches!(table, Table::ConsumeQueue | Table::Time | Table::Key | Table::System) {
                let end = if table == Table::Half { half::HALVES } else { END };
                views.scan(table, &[], end, &mut visit)?;
            }
            if bad {
                return Err(ViewsError::damaged(format!("a row of table {} cannot be read", table.name())));
            }
        }
        state.resend.forget(state.log_time);
        Ok(state)
    }

    fn load_row(&mut self, table: Table, key: &[u8], row: &[u8]) -> Option<()> {
        match table {
            Table::ConsumeQueue | Table::Time | Table::Key | Table::System => {}
            Table::Kept => self.kept.load(key, row)?,
            Table::Half => self.halves.load(key, row)?,
            Table::Lite => self.lites.load(key, row)?,
            Table::QueueMeta => {
                let (min, next, min_lsn) = rows::queue(row).filter(|(min, next, _)| min <= next)?;
                let (queue, state) = (rows::split_queue_key(key)?, QueueState { min, next, min_lsn });
                let before = self.queues.insert(queue, state).unwrap_or_default();
                self.oldest.moved(queue, before, state);
            }
            Table::GroupQueue => match rows::split_group_key(key)? {
                GroupKey::Topic(group, topic) => self.pops.or_create(group, topic).open = rows::open(row)?,
                GroupKey::Queue(QueueOf { group, topic, queue }) => {
                    self.pops.or_create(group, topic).set_cursor(queue, rows::cursor(row)?);
                }
                GroupKey::PullOffset(of) => self.offsets.load(of, rows::cursor(row)?),
            },
            Table::Lease => {
                let (of, offset) = rows::split_lease_key(key)?;
                let QueueOf { group, topic, queue } = of;
                self.pops.or_create(group, topic).put(queue, offset, rows::entry(row)?);
            }
            Table::Name => match rows::name(key, row)? {
                Name::Topic(id, name) => drop(self.topics.insert(id, name)),
                Name::Group(id, name) => drop(self.groups.insert(id, name)),
                Name::NotIndexed(id) => self.keys.load(id),
                Name::Seal(id, seal) => self.seals.load(id, seal),
            },
            Table::Resend => self.resend.load(rows::resends(row)?)?,
        }
        Some(())
    }
}
