//! `wait`, and what it waits for.

use pyo3::exceptions::{PyAssertionError, PyTypeError, PyValueError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PySet, PyTuple};
use pyo3::{Borrowed, PyTraverseError, intern};

use super::any_future::{AnyFuture, current_task};
use super::iscoroutine::iscoroutine;
use super::sleep::Resolve;
use crate::asyncio;
use crate::coroutine::{Coroutine, Frame, Next, Outcome};
use crate::ffi::async_function::AsyncFunction;
use crate::ffi::cell::{GilCell, GilCopy};
use crate::ffi::coroutine::is_generator;
use crate::ffi::method::CallArguments;
use crate::futures::awaited_by::is_future;
use crate::futures::{Future, Notified};
use crate::loop_ref::{Due, LoopRef, Timer};

/// The values of `return_when`, as concurrent.futures has them.
pub(crate) const FIRST_COMPLETED: &str = "FIRST_COMPLETED";
pub(crate) const FIRST_EXCEPTION: &str = "FIRST_EXCEPTION";
pub(crate) const ALL_COMPLETED: &str = "ALL_COMPLETED";

/// `ferrio.wait`.
pub(crate) struct WaitFunction;

impl AsyncFunction for WaitFunction {
    const NAME: &'static str = "wait";

    const PARAMETERS: &'static str = "(fs, *, timeout=None, return_when='ALL_COMPLETED')";

    const DOC: &'static str = "Waits until the futures and tasks `fs` are done, and returns two sets: done, pending.\n\n\
        With FIRST_COMPLETED or FIRST_EXCEPTION the wait ends with the first that is done, or that raises. It ends after\n\
        `timeout` seconds in any case, without an exception.\n\n\
        Raises ValueError if there is nothing to wait for, TypeError if there are coroutines.";

    #[inline]
    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let [fs, timeout, return_when] = arguments.bind("wait", ["fs", "timeout", "return_when"], 1, 1)?;
        let owned = |argument: Option<Borrowed<'_, 'py, PyAny>>| argument.map(|object| object.to_owned().unbind());
        let fs = owned(fs).unwrap_or_else(|| py.None());
        let timeout = owned(timeout).unwrap_or_else(|| py.None());
        Coroutine::of(py, Self::NAME, Wait::Begins { fs, timeout, return_when: owned(return_when) })
    }
}

enum Wait {
    Begins { fs: Py<PyAny>, timeout: Py<PyAny>, return_when: Option<Py<PyAny>> },
    Waits { futures: Vec<Py<PyAny>>, waiting: Py<Waiting> },
    Over,
}

impl Frame for Wait {
    fn step<'py>(&mut self, py: Python<'py>, outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        match std::mem::replace(self, Self::Over) {
            Self::Begins { fs, timeout, return_when } => {
                let mode = Mode::of(fs.bind(py), return_when.as_ref().map(|mode| mode.bind(py)))?;
                let futures = distinct(fs.bind(py))?;
                let waiting = Waiting::begin(py, &futures, mode, timeout.bind(py))?;
                let waiter = waiting.get().waiter.bind(py).clone().into_any();
                let futures = futures.into_iter().map(Bound::unbind).collect();
                *self = Self::Waits { futures, waiting: waiting.unbind() };
                Ok(Next::Await(waiter))
            }
            Self::Waits { futures, waiting } => {
                let futures: Vec<_> = futures.into_iter().map(|future| future.into_bound(py)).collect();
                Waiting::end(waiting.bind(py), &futures)?;
                outcome?;
                let (done, pending) = (PySet::empty(py)?, PySet::empty(py)?);
                for future in futures {
                    if AnyFuture::of(&future).is_done()? { done.add(future)? } else { pending.add(future)? }
                }
                Ok(Next::Return(PyTuple::new(py, [done, pending])?.into_any()))
            }
            Self::Over => outcome.map(Next::Return),
        }
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Begins { fs, timeout, return_when } => {
                visit.call(fs)?;
                visit.call(timeout)?;
                visit.call(return_when)
            }
            Self::Waits { futures, waiting } => {
                futures.iter().try_for_each(|future| visit.call(future))?;
                visit.call(waiting)
            }
            Self::Over => Ok(()),
        }
    }
}

/// When the wait is over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    FirstCompleted,
    FirstException,
    AllCompleted,
}

impl Mode {
    /// Looks at both arguments, in asyncio's order.
    fn of(fs: &Bound<'_, PyAny>, return_when: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        // A generator is a collection here, also where it is a coroutine elsewhere.
        if is_future(fs)? || !is_generator(fs) && iscoroutine(fs)? {
            let class = fs.get_type();
            return Err(PyTypeError::new_err(format!("expect a list of futures, not {}", class.name()?)));
        }
        if !fs.is_truthy()? {
            return Err(PyValueError::new_err("Set of Tasks/Futures is empty."));
        }
        let Some(return_when) = return_when else { return Ok(Self::AllCompleted) };
        let modes = [
            (FIRST_COMPLETED, Self::FirstCompleted),
            (FIRST_EXCEPTION, Self::FirstException),
            (ALL_COMPLETED, Self::AllCompleted),
        ];
        for (name, mode) in modes {
            if return_when.eq(name)? {
                return Ok(mode);
            }
        }
        Err(PyValueError::new_err(format!("Invalid return_when value: {}", return_when.str()?)))
    }
}

/// The members of `set(fs)`, of which there is at least one.
fn distinct<'py>(fs: &Bound<'py, PyAny>) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let futures: Vec<_> = fs.py().get_type::<PySet>().call1((fs,))?.cast_into::<PySet>()?.iter().collect();
    for future in &futures {
        if Future::native(future).is_none() && iscoroutine(future)? {
            return Err(PyTypeError::new_err("Passing coroutines is forbidden, use tasks explicitly."));
        }
    }
    // An iterator is true, whatever comes of it.
    if futures.is_empty() {
        return Err(PyAssertionError::new_err("Set of Futures is empty."));
    }
    Ok(futures)
}

/// One wait that goes on.
#[pyclass(frozen, module = "ferrio._ferrio")]
struct Waiting {
    waiter: Py<Future>,
    awaiter: Option<Py<PyAny>>,
    /// How many are not done.
    left: GilCopy<usize>,
    mode: Mode,
    timer: GilCell<Option<Timer>>,
}

impl Waiting {
    fn begin<'py>(
        py: Python<'py>,
        futures: &[Bound<'py, PyAny>],
        mode: Mode,
        timeout: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, Self>> {
        let loop_ref = LoopRef::running(py)?;
        let waiter = Bound::new(py, Future::new(py, loop_ref.clone_ref(py))?)?;
        let timer = set_timer(&loop_ref, &waiter, timeout)?;
        let awaiter = current_task(loop_ref.bind(py))?;
        let this = Self {
            waiter: waiter.unbind(),
            awaiter: awaiter.clone().map(Bound::unbind),
            left: GilCopy::new(futures.len()),
            mode,
            timer: GilCell::new(timer),
        };
        let this = Bound::new(py, this)?;
        for future in futures {
            AnyFuture::of(future).notify::<OneDone>(&this, awaiter.as_ref())?;
        }
        Ok(this)
    }

    /// Leaves nothing of it behind.
    fn end<'py>(this: &Bound<'py, Self>, futures: &[Bound<'py, PyAny>]) -> PyResult<()> {
        let py = this.py();
        this.get().cancel_timer(py)?;
        let awaiter = this.get().awaiter.as_ref().map(|awaiter| awaiter.bind(py));
        futures.iter().try_for_each(|future| AnyFuture::of(future).forget(this.as_any(), awaiter))
    }

    fn cancel_timer(&self, py: Python<'_>) -> PyResult<()> {
        self.timer.take(py).map_or(Ok(()), |timer| timer.cancel(py))
    }
}

/// Has `waiter` get its result after `timeout` seconds, if that is not None.
fn set_timer(loop_ref: &LoopRef, waiter: &Bound<'_, Future>, timeout: &Bound<'_, PyAny>) -> PyResult<Option<Timer>> {
    if timeout.is_none() {
        return Ok(None);
    }
    let due = Due::After(timeout.extract()?);
    let timer = loop_ref.set_timer::<Resolve>(waiter, due, |py| {
        let release = asyncio::module(py, "asyncio.futures")?.getattr(intern!(py, "_set_result_unless_cancelled"))?;
        Ok((release, vec![waiter.clone().into_any(), py.None().into_bound(py)]))
    })?;
    Ok(Some(timer))
}

#[pymethods]
impl Waiting {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.waiter)?;
        visit.call(&self.awaiter)?;
        self.timer.traverse(visit, |timer, visit| timer.as_ref().map_or(Ok(()), |timer| timer.traverse(visit)))
    }
}

/// One of the futures is done.
struct OneDone;

impl Notified for OneDone {
    type Class = Waiting;

    const NAME: &'static str = "_wait.<locals>._on_completion";

    #[inline]
    fn notified(this: &Bound<'_, Waiting>, future: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = this.py();
        let own = this.get();
        let left = own.left.get(py).saturating_sub(1);
        own.left.set(py, left);
        let over = left == 0
            || match own.mode {
                Mode::FirstCompleted => true,
                Mode::AllCompleted => false,
                Mode::FirstException => {
                    let future = AnyFuture::of(future);
                    !future.is_cancelled()? && future.exception()?.is_some()
                }
            };
        if !over {
            return Ok(());
        }
        own.cancel_timer(py)?;
        let waiter = own.waiter.bind(py);
        if waiter.get().is_pending(py) { Future::resolve(waiter, py.None().into_bound(py)) } else { Ok(()) }
    }
}
