//! `Lock`.

use pyo3::PyTraverseError;
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::line::{Line, line_attributes};
use super::repr::describe;
use super::scope::{EnterByMethod, ExitByMethod, acquired};
use super::waiters::wake;
use crate::asyncio::cancelled_error;
use crate::classes::{copied, stands_for};
use crate::coroutine::{Coroutine, Frame, Next, Outcome};
use crate::ffi::async_function::AsyncFunction;
use crate::ffi::cell::GilCopy;
use crate::ffi::method::CallArguments;
use crate::ffi::newborn;
use crate::futures::Future;

/// A mutual exclusion lock for tasks. It is fair: who waits longest gets it next.
#[pyclass(frozen, subclass, dict, weakref, module = "ferrio")]
pub(crate) struct Lock {
    line: Line,
    locked: GilCopy<bool>,
}

impl Lock {
    pub(super) fn unlocked() -> Self {
        Self { line: Line::default(), locked: GilCopy::new(false) }
    }

    #[inline]
    pub(super) fn is_locked(&self, py: Python<'_>) -> bool {
        self.locked.get(py)
    }

    /// Takes the lock if it is free and nobody is before us.
    #[inline]
    fn try_acquire(&self, py: Python<'_>) -> PyResult<bool> {
        let free = !self.locked.get(py) && !self.line.waiters.any_not_cancelled(py)?;
        if free {
            self.locked.set(py, true);
        }
        Ok(free)
    }

    /// # Errors
    ///
    /// `RuntimeError` if the lock is not held.
    #[inline]
    pub(super) fn unlock(&self, py: Python<'_>) -> PyResult<()> {
        if !self.locked.replace(py, false) {
            return Err(PyRuntimeError::new_err("Lock is not acquired."));
        }
        self.wake_first(py)
    }

    /// Wakes the first in line, unless it has been woken and has yet to come.
    #[inline]
    fn wake_first(&self, py: Python<'_>) -> PyResult<()> {
        match self.line.waiters.at(py, 0)? {
            Some(first) => wake(&first, true.into_pyobject(py)?.to_owned().into_any()).map(drop),
            None => Ok(()),
        }
    }
}

#[pymethods]
impl Lock {
    #[new]
    #[pyo3(signature = (*args, **_kwargs), text_signature = "()")]
    fn __new__(args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        newborn::has_dict(args.py());
        Self::unlocked()
    }

    /// A lock that is free.
    fn __init__(&self, py: Python<'_>) {
        self.locked.set(py, false);
        self.line.reset(py);
    }

    /// Whether somebody has the lock.
    fn locked(&self, py: Python<'_>) -> bool {
        self.is_locked(py)
    }

    /// Gives the lock to the next in line.
    ///
    /// Raises RuntimeError if nobody has it.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        self.unlock(py)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let (py, lock) = (slf.py(), slf.get());
        let state = if lock.is_locked(py) { "locked" } else { "unlocked" };
        describe(slf, state, lock.line.waiters.len(py)?)
    }

    #[getter(_locked)]
    fn get_locked(&self, py: Python<'_>) -> bool {
        self.is_locked(py)
    }

    #[setter(_locked)]
    fn set_locked(&self, py: Python<'_>, value: bool) {
        self.locked.set(py, value);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.line.traverse(visit)
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        slf.get().line.clear(slf.py());
    }
}

line_attributes!(Lock, deque_if_used -> Option<Bound<'py, PyAny>>);
copied!(Lock, ["_locked", "_waiters", "_loop"]);
stands_for!(Lock, lock_class);

/// The acquisition of a lock, by itself or as a part of another frame. Returns True, or None to an `async with`.
pub(super) struct Acquire {
    lock: Py<Lock>,
    waiter: Option<Py<Future>>,
    enters: bool,
}

impl Acquire {
    #[inline]
    pub(super) fn new(lock: Py<Lock>, enters: bool) -> Self {
        Self { lock, waiter: None, enters }
    }

    fn wait<'py>(&mut self, py: Python<'py>) -> PyResult<Next<'py>> {
        let lock = self.lock.bind(py);
        let waiter = lock.get().line.join(lock)?;
        self.waiter = Some(waiter.clone().unbind());
        Ok(Next::Await(waiter.into_any()))
    }
}

impl Frame for Acquire {
    #[inline]
    fn step<'py>(&mut self, py: Python<'py>, outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        let Some(waiter) = self.waiter.take() else {
            return if self.lock.get().try_acquire(py)? { acquired(py, self.enters) } else { self.wait(py) };
        };
        let lock = self.lock.get();
        lock.line.waiters.remove(&waiter.into_bound(py))?;
        match outcome {
            Ok(_) => {
                lock.locked.set(py, true);
                acquired(py, self.enters)
            }
            Err(error) => {
                // It may have been our turn: the next one's, then.
                if cancelled_error::is(error.value(py)) && !lock.is_locked(py) {
                    lock.wake_first(py)?;
                }
                Err(error)
            }
        }
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.lock)?;
        visit.call(&self.waiter)
    }
}

/// The end of an `async with lock`.
pub(super) struct Release(Py<Lock>);

impl Release {
    #[inline]
    pub(super) fn new(lock: Py<Lock>) -> Self {
        Self(lock)
    }
}

impl Frame for Release {
    #[inline]
    fn step<'py>(&mut self, py: Python<'py>, _outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        self.0.get().unlock(py)?;
        Ok(Next::Return(py.None().into_bound(py)))
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.0)
    }
}

/// `Lock.acquire`.
pub(super) struct LockAcquire;

impl AsyncFunction for LockAcquire {
    const NAME: &'static str = "Lock.acquire";

    const PARAMETERS: &'static str = "(self)";

    const DOC: &'static str = "Takes the lock, when it is free and whoever waited before has had it. Returns True.";

    #[inline]
    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let (lock, _) = arguments.method::<Lock, 1>(Self::NAME, ["self"])?;
        Coroutine::of(py, Self::NAME, Acquire::new(lock.to_owned().unbind(), false))
    }
}

/// `Lock.__aenter__`.
pub(super) struct LockEnter;

impl AsyncFunction for LockEnter {
    const NAME: &'static str = "Lock.__aenter__";

    const PARAMETERS: &'static str = "(self)";

    const DOC: &'static str = "Takes the lock.";

    #[inline]
    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let (lock, _) = arguments.method::<Lock, 1>(Self::NAME, ["self"])?;
        if lock.is_exact_instance_of::<Lock>() {
            return Coroutine::of(py, Self::NAME, Acquire::new(lock.to_owned().unbind(), true));
        }
        Coroutine::of(py, Self::NAME, EnterByMethod::new(lock.as_any()))
    }
}

/// `Lock.__aexit__`.
pub(super) struct LockExit;

impl AsyncFunction for LockExit {
    const NAME: &'static str = "Lock.__aexit__";

    const PARAMETERS: &'static str = "(self, exc_type, exc, tb)";

    const DOC: &'static str = "Releases the lock.";

    #[inline]
    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let (lock, _) = arguments.method::<Lock, 4>(Self::NAME, ["self", "exc_type", "exc", "tb"])?;
        if lock.is_exact_instance_of::<Lock>() {
            return Coroutine::of(py, Self::NAME, Release::new(lock.to_owned().unbind()));
        }
        Coroutine::of(py, Self::NAME, ExitByMethod::new(lock.as_any()))
    }
}
