//! Who waits, in the order in which they came.

use std::collections::VecDeque;

use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;

use crate::asyncio;
use crate::ffi::cell::GilCell;
use crate::futures::{Future, State};
use crate::tasks::AnyFuture;

/// A queue of futures, each of them awaited by one task.
///
/// To wake one can run Python code, on a loop that is not ours: nothing here holds a borrow meanwhile, and positions
/// are looked up anew.
#[derive(Debug, Default)]
pub(crate) struct Waiters(GilCell<Store>);

/// They are kept in Rust until Python asks for the `deque` that CPython's classes have: from then on they are kept in
/// that object, where a subclass that waits in its own way may put futures of its own.
#[derive(Debug)]
enum Store {
    Native(VecDeque<Py<Future>>),
    Python(Py<PyAny>),
}

impl Default for Store {
    fn default() -> Self {
        Self::Native(VecDeque::new())
    }
}

/// Where an operation finds them.
enum Found<'py, T> {
    Done(T),
    Python(Bound<'py, PyAny>),
}

impl Waiters {
    /// Does `native` with those in Rust, or finds the object that they are in.
    #[inline]
    fn find<'py, T>(&self, py: Python<'py>, native: impl FnOnce(&mut VecDeque<Py<Future>>) -> T) -> Found<'py, T> {
        self.0.with(py, |store| match store {
            Store::Native(waiters) => Found::Done(native(waiters)),
            Store::Python(object) => Found::Python(object.clone_ref(py).into_bound(py)),
        })
    }

    #[inline]
    pub(crate) fn len(&self, py: Python<'_>) -> PyResult<usize> {
        match self.find(py, |waiters| waiters.len()) {
            Found::Done(count) => Ok(count),
            Found::Python(object) => object.len(),
        }
    }

    #[inline]
    pub(crate) fn push(&self, waiter: &Bound<'_, Future>) -> PyResult<()> {
        let py = waiter.py();
        let kept = waiter.clone().unbind();
        match self.find(py, |waiters| waiters.push_back(kept)) {
            Found::Done(()) => Ok(()),
            Found::Python(object) => object.call_method1(intern!(py, "append"), (waiter,)).map(drop),
        }
    }

    #[inline]
    pub(crate) fn pop<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.find(py, VecDeque::pop_front) {
            Found::Done(waiter) => Ok(waiter.map(|waiter| waiter.into_bound(py).into_any())),
            Found::Python(object) if object.is_truthy()? => object.call_method0(intern!(py, "popleft")).map(Some),
            Found::Python(_) => Ok(None),
        }
    }

    /// Takes `waiter` out. Those who are woken leave in the order in which they came, so it is most often the first.
    #[inline]
    pub(crate) fn remove(&self, waiter: &Bound<'_, Future>) -> PyResult<()> {
        let py = waiter.py();
        let found = self.find(py, |waiters| {
            if waiters.front().is_some_and(|first| first.is(waiter)) {
                return waiters.pop_front();
            }
            let position = waiters.iter().position(|other| other.is(waiter))?;
            waiters.remove(position)
        });
        match found {
            Found::Done(removed) => {
                drop(removed.map(|waiter| waiter.into_bound(py)));
                Ok(())
            }
            Found::Python(object) => {
                let position = copy(&object)?.iter().position(|other| other.is(waiter));
                position.map_or(Ok(()), |position| object.del_item(position))
            }
        }
    }

    /// Whether somebody waits who has not been cancelled, woken or not.
    #[inline]
    pub(crate) fn any_not_cancelled(&self, py: Python<'_>) -> PyResult<bool> {
        let native = |waiters: &mut VecDeque<Py<Future>>| {
            waiters.iter().any(|waiter| waiter.get().state(py) != State::Cancelled)
        };
        match self.find(py, native) {
            Found::Done(any) => Ok(any),
            Found::Python(object) => {
                for waiter in copy(&object)? {
                    if !AnyFuture::of(&waiter).is_cancelled()? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }

    /// Who waits now.
    pub(crate) fn all<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let native = |waiters: &mut VecDeque<Py<Future>>| {
            waiters.iter().map(|waiter| waiter.clone_ref(py).into_bound(py).into_any()).collect()
        };
        match self.find(py, native) {
            Found::Done(waiters) => Ok(waiters),
            Found::Python(object) => copy(&object),
        }
    }

    pub(crate) fn at<'py>(&self, py: Python<'py>, position: usize) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.find(py, |waiters| waiters.get(position).map(|waiter| waiter.clone_ref(py))) {
            Found::Done(waiter) => Ok(waiter.map(|waiter| waiter.into_bound(py).into_any())),
            Found::Python(object) if position < object.len()? => object.get_item(position).map(Some),
            Found::Python(_) => Ok(None),
        }
    }

    /// The first who is neither woken nor cancelled.
    pub(crate) fn first_pending<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let native = |waiters: &mut VecDeque<Py<Future>>| {
            let waiter = waiters.iter().find(|waiter| waiter.get().is_pending(py))?;
            Some(waiter.clone_ref(py))
        };
        match self.find(py, native) {
            Found::Done(waiter) => Ok(waiter.map(|waiter| waiter.into_bound(py).into_any())),
            Found::Python(object) => {
                for waiter in copy(&object)? {
                    if !AnyFuture::of(&waiter).is_done()? {
                        return Ok(Some(waiter));
                    }
                }
                Ok(None)
            }
        }
    }

    /// The `deque` of those who wait, which is where they are from now on.
    pub(crate) fn to_deque<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let native = |waiters: &mut VecDeque<Py<Future>>| waiters.iter().map(|w| w.clone_ref(py)).collect::<Vec<_>>();
        match self.find(py, native) {
            Found::Done(waiters) => {
                let deque = asyncio::deque(py)?.call1((waiters,))?;
                drop(self.0.replace(py, Store::Python(deque.clone().unbind())));
                Ok(deque)
            }
            Found::Python(object) => Ok(object),
        }
    }

    /// Has them kept in `others`, a `deque` or what one can be made of; None is nobody.
    pub(crate) fn set(&self, others: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = others.py();
        let class = asyncio::deque(py)?;
        let store = if others.is_none() {
            Store::default()
        } else if others.is_instance(class)? {
            Store::Python(others.clone().unbind())
        } else {
            Store::Python(class.call1((others,))?.unbind())
        };
        drop(self.0.replace(py, store));
        Ok(())
    }

    pub(crate) fn clear(&self, py: Python<'_>) {
        drop(self.0.take(py));
    }

    pub(crate) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.traverse(visit, |store, visit| match store {
            Store::Native(waiters) => waiters.iter().try_for_each(|waiter| visit.call(waiter)),
            Store::Python(object) => visit.call(object),
        })
    }
}

/// What is in `object` now: to ask one of them runs code that may change it.
fn copy<'py>(object: &Bound<'py, PyAny>) -> PyResult<Vec<Bound<'py, PyAny>>> {
    object.try_iter()?.collect()
}

/// Wakes who waits, if nothing has woken it yet; whether it was waiting.
#[inline]
pub(crate) fn wake(waiter: &Bound<'_, PyAny>, result: Bound<'_, PyAny>) -> PyResult<bool> {
    let py = waiter.py();
    if let Some(waiter) = Future::native(waiter) {
        if !waiter.get().is_pending(py) {
            return Ok(false);
        }
        return Future::resolve(waiter, result).map(|()| true);
    }
    if AnyFuture::of(waiter).is_done()? {
        return Ok(false);
    }
    waiter.call_method1(intern!(py, "set_result"), (result,)).map(|_| true)
}

/// Has who waits raise `error`, if nothing has woken it yet.
pub(crate) fn fail(waiter: &Bound<'_, PyAny>, error: Bound<'_, PyAny>) -> PyResult<()> {
    let py = waiter.py();
    match Future::native(waiter) {
        Some(waiter) if waiter.get().is_pending(py) => Future::reject(waiter, error),
        Some(_) => Ok(()),
        None if AnyFuture::of(waiter).is_done()? => Ok(()),
        None => waiter.call_method1(intern!(py, "set_exception"), (error,)).map(drop),
    }
}
