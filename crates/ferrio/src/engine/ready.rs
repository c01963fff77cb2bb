//! What runs next, first in, first out.

use std::cell::RefCell;
use std::collections::VecDeque;

use super::Runnable;

/// The ready queue of one loop.
///
/// Each method borrows for its own length only, and none of them drops a [`Runnable`].
#[derive(Debug, Default)]
pub(super) struct ReadyQueue(RefCell<VecDeque<Runnable>>);

impl ReadyQueue {
    #[inline]
    pub(super) fn push(&self, runnable: Runnable) {
        self.0.borrow_mut().push_back(runnable);
    }

    #[inline]
    pub(super) fn pop(&self) -> Option<Runnable> {
        self.0.borrow_mut().pop_front()
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.0.borrow().len()
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// Everything that is queued, for the caller to drop.
    pub(super) fn take(&self) -> VecDeque<Runnable> {
        self.0.take()
    }

    /// Shows every queued runnable to `visit`, which must not schedule.
    pub(super) fn for_each(&self, visit: impl FnMut(&Runnable)) {
        self.0.borrow().iter().for_each(visit);
    }
}
