//! Counters.

use std::cell::Cell;

/// What a loop has done since it was made. Reading them costs nothing to the loop; keeping them, an addition each.
#[derive(Debug, Default)]
pub struct Stats {
    pub(super) turns: Cell<u64>,
    pub(super) runs: Cell<u64>,
    pub(super) waits: Cell<u64>,
    pub(super) blocking_waits: Cell<u64>,
}

impl Stats {
    /// Turns of the loop.
    pub fn turns(&self) -> u64 {
        self.turns.get()
    }

    /// Runnables that were run.
    pub fn runs(&self) -> u64 {
        self.runs.get()
    }

    /// Times that the operating system was asked for readiness.
    pub fn waits(&self) -> u64 {
        self.waits.get()
    }

    /// Times that the thread was allowed to sleep for it.
    pub fn blocking_waits(&self) -> u64 {
        self.blocking_waits.get()
    }
}

#[inline]
pub(super) fn add(counter: &Cell<u64>, count: usize) {
    counter.set(counter.get().wrapping_add(count as u64));
}
