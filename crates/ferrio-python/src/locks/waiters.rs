//! Who waits, in the order in which they came.

use std::collections::VecDeque;

use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;

use crate::asyncio;
use crate::ffi::cell::GilCell;
use crate::futures::{Future, State};

/// A queue of futures, each of them awaited by one task.
///
/// To wake one can run Python code, on a loop that is not ours: nothing here holds a borrow meanwhile, and positions are
/// looked up anew.
#[derive(Debug, Default)]
pub(crate) struct Waiters(GilCell<VecDeque<Py<Future>>>);

impl Waiters {
    #[inline]
    pub(crate) fn len(&self, py: Python<'_>) -> usize {
        self.0.with(py, |waiters| waiters.len())
    }

    pub(crate) fn push(&self, waiter: &Bound<'_, Future>) {
        let kept = waiter.clone().unbind();
        self.0.with(waiter.py(), |waiters| waiters.push_back(kept));
    }

    pub(crate) fn pop<'py>(&self, py: Python<'py>) -> Option<Bound<'py, Future>> {
        self.0.with(py, VecDeque::pop_front).map(|waiter| waiter.into_bound(py))
    }

    /// Takes `waiter` out. Those who are woken leave in the order in which they came, so it is most often the first.
    pub(crate) fn remove(&self, py: Python<'_>, waiter: &Py<Future>) {
        let removed = self.0.with(py, |waiters| {
            let position = waiters.iter().position(|other| other.is(waiter))?;
            waiters.remove(position)
        });
        drop(removed.map(|waiter| waiter.into_bound(py)));
    }

    /// Whether somebody waits who has not been cancelled, woken or not.
    #[inline]
    pub(crate) fn any_not_cancelled(&self, py: Python<'_>) -> bool {
        self.0.with(py, |waiters| waiters.iter().any(|waiter| waiter.get().state(py) != State::Cancelled))
    }

    pub(crate) fn at<'py>(&self, py: Python<'py>, position: usize) -> Option<Bound<'py, Future>> {
        self.0.with(py, |waiters| waiters.get(position).map(|waiter| waiter.clone_ref(py).into_bound(py)))
    }

    /// The first who is neither woken nor cancelled.
    pub(crate) fn first_pending<'py>(&self, py: Python<'py>) -> Option<Bound<'py, Future>> {
        self.0.with(py, |waiters| {
            let waiter = waiters.iter().find(|waiter| waiter.get().is_pending(py))?;
            Some(waiter.clone_ref(py).into_bound(py))
        })
    }

    /// A copy of the queue, to look at.
    pub(crate) fn to_deque<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let waiters: Vec<_> = self.0.with(py, |waiters| waiters.iter().map(|waiter| waiter.clone_ref(py)).collect());
        asyncio::deque(py)?.call1((waiters,))
    }

    /// Puts those of another queue, futures of ours, in the place of who waits. None is nobody.
    pub(crate) fn set(&self, others: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = others.py();
        let mut waiters = VecDeque::new();
        if !others.is_none() {
            for waiter in others.try_iter()? {
                waiters.push_back(waiter?.cast_into::<Future>()?.unbind());
            }
        }
        drop(self.0.replace(py, waiters));
        Ok(())
    }

    pub(crate) fn clear(&self, py: Python<'_>) {
        drop(self.0.take(py));
    }

    pub(crate) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.traverse(visit, |waiters, visit| waiters.iter().try_for_each(|waiter| visit.call(waiter)))
    }
}

/// Wakes who waits, if nothing has woken it yet; whether it was waiting.
pub(crate) fn wake(waiter: &Bound<'_, Future>, result: Bound<'_, PyAny>) -> PyResult<bool> {
    if !waiter.get().is_pending(waiter.py()) {
        return Ok(false);
    }
    Future::resolve(waiter, result).map(|()| true)
}
