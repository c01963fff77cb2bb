//! Coroutines for Python whose body is a Rust `async` block.
//!
//! The body awaits Python objects with [`await_`]. There are no wakers: what a body waits for is yielded to whoever
//! drives the coroutine, a task of ours or of anybody else, and the body is polled again when the coroutine is resumed.
//! In between, the object that is awaited lies in the coroutine and not in the body, so that the garbage collector sees
//! it.
//!
//! A body must not keep what could refer back to its own task, other than through what it awaits: the collector does
//! not look inside.

use std::cell::RefCell;
use std::future::{Future as RustFuture, poll_fn};
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};

use pyo3::exceptions::{PyGeneratorExit, PyRuntimeError, PyStopIteration, PyTypeError, PyValueError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use pyo3::{PyTraverseError, ffi, intern};

use crate::ffi::cell::GilCell;
use crate::ffi::coroutine::{self, Step};
use crate::ffi::finalizer::{Finalize, FinalizeFirst};
use crate::ffi::stop_iteration;
use crate::futures::{Future, thrown};
use crate::tasks::Task;

type Body = Pin<Box<dyn RustFuture<Output = PyResult<Py<PyAny>>> + Send>>;

/// A coroutine, to `asyncio.iscoroutine`, `create_task` and `await`.
#[pyclass(frozen, weakref, module = "ferrio._ferrio", name = "coroutine")]
pub(crate) struct Coroutine {
    name: &'static str,
    state: GilCell<State>,
}

enum State {
    Created(Body),
    /// The body waits; what for is here.
    Suspended(Body, Awaited),
    Running,
    Finished,
}

/// What a suspended body waits for.
enum Awaited {
    /// A future of ours, which was yielded itself.
    Future(Py<Future>),
    /// Anything else: its iterator, which is resumed with what the coroutine is resumed with.
    Iterator(Py<PyAny>),
}

/// What goes in and out of a body that is polled.
enum Exchange {
    /// Into the body: what it waited for, and the exception to raise there instead of going on.
    Resume(Awaited, Option<Py<PyAny>>),
    /// Out of the body: what it waits for, and what to yield for it.
    Yield(Awaited, Py<PyAny>),
}

thread_local! {
    /// Filled right before a poll or right before it returns, and emptied by the other side before anything else runs,
    /// so that coroutines which resume each other do not meet here.
    static EXCHANGE: RefCell<Option<Exchange>> = const { RefCell::new(None) };
}

/// Awaits a Python object inside a [`Coroutine`]: `await object`.
///
/// # Errors
///
/// What the object raises, or what is thrown into the coroutine meanwhile.
pub(crate) async fn await_(object: Py<PyAny>) -> PyResult<Py<PyAny>> {
    let mut object = Some(object);
    poll_fn(move |_| {
        Python::attach(|py| {
            let progress = match object.take() {
                Some(object) => begin(object.into_bound(py)),
                None => match EXCHANGE.take() {
                    Some(Exchange::Resume(awaited, failure)) => resume(py, awaited, failure),
                    _ => Err(PyRuntimeError::new_err("a coroutine of ferrio was polled by something else")),
                },
            };
            match progress {
                Ok(Progress::Done(value)) => Poll::Ready(Ok(value)),
                Ok(Progress::Waits(awaited, yielded)) => {
                    EXCHANGE.set(Some(Exchange::Yield(awaited, yielded)));
                    Poll::Pending
                }
                Err(error) => Poll::Ready(Err(error)),
            }
        })
    })
    .await
}

enum Progress {
    Done(Py<PyAny>),
    Waits(Awaited, Py<PyAny>),
}

fn begin(object: Bound<'_, PyAny>) -> PyResult<Progress> {
    let py = object.py();
    let future = match object.cast_exact::<Future>() {
        Ok(future) => Some(future),
        Err(_) => object.cast_exact::<Task>().ok().map(Bound::as_super),
    };
    if let Some(future) = future {
        if !future.get().is_pending(py) {
            return Future::result(future).map(|result| Progress::Done(result.unbind()));
        }
        future.get().blocking.set(py, true);
        return Ok(Progress::Waits(Awaited::Future(future.clone().unbind()), object.clone().unbind()));
    }
    let is_coroutine = coroutine::is_native(&object) || object.is_exact_instance_of::<Coroutine>();
    let iterator = if is_coroutine { object } else { object.call_method0(intern!(py, "__await__"))? };
    advance(iterator, None)
}

fn resume(py: Python<'_>, awaited: Awaited, failure: Option<Py<PyAny>>) -> PyResult<Progress> {
    match (awaited, failure) {
        (Awaited::Future(_), Some(failure)) => Err(PyErr::from_value(failure.into_bound(py))),
        (Awaited::Future(future), None) => {
            Future::result(future.bind(py)).map(|result| Progress::Done(result.unbind()))
        }
        (Awaited::Iterator(iterator), failure) => advance(iterator.into_bound(py), failure),
    }
}

fn advance(iterator: Bound<'_, PyAny>, failure: Option<Py<PyAny>>) -> PyResult<Progress> {
    let py = iterator.py();
    let step = match failure {
        None => coroutine::send_none(&iterator),
        Some(failure) if !iterator.hasattr(intern!(py, "throw"))? => {
            return Err(PyErr::from_value(failure.into_bound(py)));
        }
        Some(failure) => coroutine::throw(&iterator, failure.bind(py)),
    };
    match step {
        Step::Yielded(yielded) => Ok(Progress::Waits(Awaited::Iterator(iterator.unbind()), yielded.unbind())),
        Step::Returned(value) => Ok(Progress::Done(value.unbind())),
        Step::Raised(error) => Err(error),
    }
}

impl Coroutine {
    /// A coroutine that runs `body` when it is awaited.
    pub(crate) fn new<'py>(
        py: Python<'py>,
        name: &'static str,
        body: impl RustFuture<Output = PyResult<Py<PyAny>>> + Send + 'static,
    ) -> PyResult<Bound<'py, Self>> {
        Bound::new(py, Self { name, state: GilCell::new(State::Created(Box::pin(body))) })
    }

    /// Polls the body once: the yielded object, or the result.
    fn drive(&self, py: Python<'_>, failure: Option<Py<PyAny>>) -> PyResult<Result<Py<PyAny>, Py<PyAny>>> {
        let body = match self.state.replace(py, State::Running) {
            State::Created(body) => match failure {
                None => body,
                Some(failure) => {
                    drop((self.state.replace(py, State::Finished), body));
                    return Err(PyErr::from_value(failure.into_bound(py)));
                }
            },
            State::Suspended(body, awaited) => {
                EXCHANGE.set(Some(Exchange::Resume(awaited, failure)));
                body
            }
            State::Running => return Err(PyValueError::new_err("coroutine already executing")),
            State::Finished => {
                drop(self.state.replace(py, State::Finished));
                return Err(PyRuntimeError::new_err("cannot reuse already awaited coroutine"));
            }
        };
        let mut body = body;
        match body.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => {
                drop((self.state.replace(py, State::Finished), body));
                result.map(Ok)
            }
            Poll::Pending => match EXCHANGE.take() {
                Some(Exchange::Yield(awaited, yielded)) => {
                    drop(self.state.replace(py, State::Suspended(body, awaited)));
                    Ok(Err(yielded))
                }
                _ => {
                    drop((self.state.replace(py, State::Finished), body));
                    Err(PyRuntimeError::new_err("a coroutine of ferrio waits for what is not Python's"))
                }
            },
        }
    }

    fn is_in(&self, py: Python<'_>, is: impl FnOnce(&State) -> bool) -> bool {
        self.state.with(py, |state| is(state))
    }
}

#[pymethods]
impl Coroutine {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        match self.drive(py, None)? {
            Err(yielded) => Ok(Some(yielded)),
            Ok(result) if result.is_none(py) => Ok(None),
            Ok(result) => Err(stop_iteration::with_value(result.into_bound(py))),
        }
    }

    /// Resumes the coroutine; only None can be sent to one that has not begun.
    fn send(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        if !value.is_none() && self.is_in(py, |state| matches!(state, State::Created(_))) {
            return Err(PyTypeError::new_err("can't send non-None value to a just-started coroutine"));
        }
        match self.drive(py, None)? {
            Err(yielded) => Ok(yielded),
            Ok(result) => Err(stop_iteration::with_value(result.into_bound(py))),
        }
    }

    /// Raises an exception where the coroutine waits.
    #[pyo3(signature = (*arguments))]
    fn throw(&self, arguments: &Bound<'_, PyTuple>) -> PyResult<Py<PyAny>> {
        let py = arguments.py();
        let exception = thrown(arguments)?;
        match self.drive(py, Some(exception.unbind()))? {
            Err(yielded) => Ok(yielded),
            Ok(result) => Err(stop_iteration::with_value(result.into_bound(py))),
        }
    }

    /// Ends the coroutine by raising GeneratorExit where it waits.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if self.is_in(py, |state| matches!(state, State::Created(_) | State::Finished)) {
            drop(self.state.replace(py, State::Finished));
            return Ok(());
        }
        let exit = PyGeneratorExit::new_err(()).into_value(py).into_any();
        match self.drive(py, Some(exit)) {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(PyRuntimeError::new_err("coroutine ignored GeneratorExit")),
            Err(error)
                if error.is_instance_of::<PyGeneratorExit>(py) || error.is_instance_of::<PyStopIteration>(py) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    #[getter]
    fn __name__(&self) -> &'static str {
        self.name
    }

    #[getter]
    fn __qualname__(&self) -> &'static str {
        self.name
    }

    /// What the coroutine waits for.
    #[getter]
    fn cr_await(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.with(py, |state| match state {
            State::Suspended(_, Awaited::Future(future)) => Some(future.clone_ref(py).into_any()),
            State::Suspended(_, Awaited::Iterator(iterator)) => Some(iterator.clone_ref(py)),
            _ => None,
        })
    }

    #[getter]
    fn cr_running(&self, py: Python<'_>) -> bool {
        self.is_in(py, |state| matches!(state, State::Running))
    }

    #[getter]
    fn cr_suspended(&self, py: Python<'_>) -> bool {
        self.is_in(py, |state| matches!(state, State::Suspended(..)))
    }

    /// None: the body has no Python frame.
    #[getter]
    fn cr_frame(&self) -> Option<bool> {
        None
    }

    /// None: where the coroutine was made is not remembered.
    #[getter]
    fn cr_origin(&self) -> Option<bool> {
        None
    }

    fn __repr__(slf: &Bound<'_, Self>) -> String {
        format!("<coroutine object {} at {:p}>", slf.get().name, slf.as_ptr())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.state.traverse(visit, |state, visit| match state {
            State::Suspended(_, Awaited::Future(future)) => visit.call(future),
            State::Suspended(_, Awaited::Iterator(iterator)) => visit.call(iterator),
            _ => Ok(()),
        })
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        drop(slf.get().state.replace(slf.py(), State::Finished));
    }
}

impl Finalize for Coroutine {
    fn finalize(this: &Bound<'_, Self>) {
        let py = this.py();
        let result = if this.get().is_in(py, |state| matches!(state, State::Created(_))) {
            py.import("warnings")
                .and_then(|warnings| warnings.call_method1(intern!(py, "_warn_unawaited_coroutine"), (this,)))
                .map(drop)
        } else {
            this.get().close(py)
        };
        if let Err(error) = result {
            error.write_unraisable(py, Some(this));
        }
    }
}

impl FinalizeFirst for Coroutine {
    fn is_due(this: &Bound<'_, Self>) -> bool {
        this.get().is_in(this.py(), |state| !matches!(state, State::Finished))
    }

    fn deallocator() -> &'static OnceLock<ffi::destructor> {
        static DEALLOCATOR: OnceLock<ffi::destructor> = OnceLock::new();
        &DEALLOCATOR
    }
}
