//! Two budgets, and what one call holds of both.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use super::discard::Discard;
use crate::edge::admit::{AdmissionLimits, take};
use crate::listen::ConnectionBytes;
use crate::metrics::{Metrics, Rejection};
use crate::service::ServiceError;

/// The budget of the whole proxy, and the limits of both.
pub(super) struct Budgets {
    used: AtomicUsize,
    limits: AdmissionLimits,
    metrics: Arc<Metrics>,
    discard: Discard,
}

/// Bytes that one call holds of both budgets. Given back when it is dropped, or before by [`Held::give_back`].
///
/// The counters publish no data, so their order is relaxed.
pub(in crate::edge) struct Held {
    budgets: Arc<Budgets>,
    /// `None` for a request that came by no listener of ours.
    connection: Option<ConnectionBytes>,
    bytes: AtomicUsize,
    refused: OnceLock<Exceeded>,
}

/// The budget that had no room.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Exceeded {
    Connection,
    Proxy,
}

impl Budgets {
    pub(super) fn new(metrics: Arc<Metrics>, limits: AdmissionLimits, discard: Discard) -> Self {
        Self { used: AtomicUsize::new(0), limits, metrics, discard }
    }

    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

impl Held {
    pub(super) fn new(budgets: Arc<Budgets>, connection: Option<ConnectionBytes>) -> Self {
        Self { budgets, connection, bytes: AtomicUsize::new(0), refused: OnceLock::new() }
    }

    /// Takes room for one more frame. Once there was none, the call is lost: [`Held::refusal`] says why from then on.
    pub(super) fn take(&self, bytes: usize) -> Result<(), Exceeded> {
        self.try_take(bytes).inspect_err(|exceeded| {
            if self.refused.set(*exceeded).is_ok() {
                self.budgets.metrics.calls.rejected(Rejection::Overload);
            }
        })
    }

    fn try_take(&self, bytes: usize) -> Result<(), Exceeded> {
        let Budgets { used, limits, .. } = &*self.budgets;
        if let Some(ConnectionBytes(used)) = &self.connection {
            take(used, bytes, limits.connection_bytes_max).map_err(|_| Exceeded::Connection)?;
        }
        if take(used, bytes, limits.bytes_max).is_err() {
            self.give_back_to_connection(bytes);
            return Err(Exceeded::Proxy);
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Gives back what was taken so far: all of it was handled.
    pub(in crate::edge) fn give_back(&self) {
        let bytes = self.bytes.swap(0, Ordering::Relaxed);
        self.budgets.used.fetch_sub(bytes, Ordering::Relaxed);
        self.give_back_to_connection(bytes);
    }

    fn give_back_to_connection(&self, bytes: usize) {
        if let Some(ConnectionBytes(used)) = &self.connection {
            used.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// What to tell the client when its request had no room.
    pub(in crate::edge) fn refusal(&self) -> Option<ServiceError> {
        let limits = &self.budgets.limits;
        let (what, limit) = match self.refused.get()? {
            Exceeded::Connection => ("bytes of requests in progress on this connection", limits.connection_bytes_max),
            Exceeded::Proxy => ("bytes of requests in progress in this proxy", limits.bytes_max),
        };
        Some(ServiceError::TooMany { what, limit })
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.budgets.metrics
    }

    pub(super) fn discard(&self) -> &Discard {
        &self.budgets.discard
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.give_back();
    }
}
