//! `wait_for`.
//!
//! One coroutine around what is awaited, and the scope of a timeout, which nobody sees. What is awaited is awaited by
//! the task itself: no task is made for it.

use pyo3::PyTraverseError;
use pyo3::exceptions::PyTimeoutError;
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;

use crate::asyncio;
use crate::coroutine::{Coroutine, Frame, Next, Outcome};
use crate::ffi::async_function::{self, AsyncFunction};
use crate::ffi::method::CallArguments;
use crate::ffi::number::plain_f64;
use crate::ffi::raise::settled;
use crate::futures::{Future, Notified};
use crate::loop_ref::LoopRef;
use crate::tasks::{AnyFuture, cancel_future, ensure_future, running_task};
use crate::timeouts::Timeout;

/// Adds what the module exports.
pub(crate) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("wait_for", async_function::make::<WaitForFunction>(module.py())?)
}

/// `ferrio.wait_for`.
struct WaitForFunction;

impl AsyncFunction for WaitForFunction {
    const NAME: &'static str = "wait_for";

    const PARAMETERS: &'static str = "(fut, timeout)";

    const DOC: &'static str = "Returns the result of a coroutine, a future or another awaitable.\n\n\
        After `timeout` seconds it is cancelled, and TimeoutError is raised; None waits for ever. With a timeout of zero or\n\
        less only a future that is done is not cancelled. A result that it returns all the same is returned. To be\n\
        cancelled is to cancel it.";

    #[inline]
    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let [fut, timeout] = arguments.bind("wait_for", ["fut", "timeout"], 2, 2)?;
        let owned = |argument: Option<Borrowed<'_, 'py, PyAny>>| match argument {
            Some(argument) => argument.to_owned().unbind(),
            None => py.None(),
        };
        Coroutine::of(py, Self::NAME, WaitFor::Begins { awaitable: owned(fut), timeout: owned(timeout) })
    }
}

enum WaitFor {
    Begins {
        awaitable: Py<PyAny>,
        timeout: Py<PyAny>,
    },
    /// In a scope with a deadline.
    Waits(Py<Timeout>),
    /// There was no time: the future has been cancelled, and releases the waiter when it is done.
    Cancels {
        future: Py<PyAny>,
        waiter: Py<Future>,
        awaiter: Option<Py<PyAny>>,
    },
    Over,
}

impl Frame for WaitFor {
    #[inline]
    fn step<'py>(&mut self, py: Python<'py>, outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        match std::mem::replace(self, Self::Over) {
            Self::Begins { awaitable, timeout } => self.begin(awaitable.into_bound(py), timeout.bind(py)),
            Self::Waits(scope) => {
                let scope = scope.bind(py);
                match outcome {
                    Ok(value) => Timeout::exit(scope, None).map(|()| Next::Return(value)),
                    Err(error) => {
                        Timeout::exit(scope, Some(error.value(py).as_any()))?;
                        Err(error)
                    }
                }
            }
            Self::Cancels { future, waiter, awaiter } => {
                let future = future.bind(py);
                let awaiter = awaiter.as_ref().map(|awaiter| awaiter.bind(py));
                AnyFuture::of(future).forget(waiter.bind(py).as_any(), awaiter)?;
                outcome?;
                timed_out(future)
            }
            Self::Over => Ok(Next::Return(py.None().into_bound(py))),
        }
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Begins { awaitable, timeout } => {
                visit.call(awaitable)?;
                visit.call(timeout)
            }
            Self::Waits(scope) => visit.call(scope),
            Self::Cancels { future, waiter, awaiter } => {
                visit.call(future)?;
                visit.call(waiter)?;
                visit.call(awaiter)
            }
            Self::Over => Ok(()),
        }
    }
}

impl WaitFor {
    fn begin<'py>(&mut self, awaitable: Bound<'py, PyAny>, timeout: &Bound<'py, PyAny>) -> PyResult<Next<'py>> {
        let py = awaitable.py();
        let seconds = match plain_f64(timeout) {
            Some(seconds) => Some(seconds),
            None if timeout.is_none() => None,
            None if timeout.le(0)? => Some(0.0),
            None => Some(timeout.extract()?),
        };
        if seconds.is_some_and(|seconds| seconds <= 0.0) {
            return self.refuse_to_wait(&awaitable);
        }
        let when = match seconds {
            Some(seconds) => Some(LoopRef::running(py)?.time(py)? + seconds),
            None => None,
        };
        let scope = Bound::new(py, Timeout::new(when))?;
        Timeout::enter(&scope)?;
        *self = Self::Waits(scope.unbind());
        Ok(Next::Await(awaitable))
    }

    /// With no time to wait there is only a result that is there already.
    fn refuse_to_wait<'py>(&mut self, awaitable: &Bound<'py, PyAny>) -> PyResult<Next<'py>> {
        let py = awaitable.py();
        let future = ensure_future(awaitable, None)?;
        if AnyFuture::of(&future).is_done()? {
            return AnyFuture::of(&future).result().map(Next::Return);
        }
        // Not the future itself: a cancellation of this coroutine must not be taken for the future's.
        let loop_ref = LoopRef::running(py)?;
        let waiter = Bound::new(py, Future::new(py, loop_ref.clone_ref(py))?)?;
        let awaiter = running_task(loop_ref.bind(py))?;
        AnyFuture::of(&future).notify::<Release>(&waiter, awaiter.as_ref())?;
        cancel_future(&future, None)?;
        let (future, awaiter) = (future.unbind(), awaiter.map(Bound::unbind));
        *self = Self::Cancels { future, waiter: waiter.clone().unbind(), awaiter };
        Ok(Next::Await(waiter.into_any()))
    }
}

/// What became of a future that was cancelled because there was no time.
fn timed_out<'py>(future: &Bound<'py, PyAny>) -> PyResult<Next<'py>> {
    let py = future.py();
    match AnyFuture::of(future).result().map_err(|error| settled(py, error)) {
        Ok(value) => Ok(Next::Return(value)),
        Err(error) if asyncio::cancelled_error::is(error.value(py)) => {
            let timeout = settled(py, PyTimeoutError::new_err(()));
            timeout.value(py).setattr(intern!(py, "__context__"), error.value(py))?;
            timeout.set_cause(py, Some(error));
            Err(timeout)
        }
        Err(error) => Err(error),
    }
}

/// The future that a waiter waits for is done, however that came.
struct Release;

impl Notified for Release {
    type Class = Future;

    const NAME: &'static str = "_release_waiter";

    fn notified(waiter: &Bound<'_, Future>, _future: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = waiter.py();
        if waiter.get().is_pending(py) { Future::resolve(waiter, py.None().into_bound(py)) } else { Ok(()) }
    }
}
