//! `await object`, for whatever the object is.

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::PyIterator;
use pyo3::{PyTraverseError, intern};

use super::Coroutine;
use crate::ffi::coroutine::{self, Step};
use crate::ffi::raise::{self, Raised};
use crate::futures::Future;

/// What a suspended frame waits for.
pub(super) enum Awaited {
    /// The next turn.
    Turn,
    /// A future of ours, which was yielded itself.
    Future(Py<Future>),
    /// Anything else: its iterator, which is resumed with what the coroutine is resumed with.
    Iterator(Py<PyAny>),
}

/// How far waiting has come.
pub(super) enum Progress<'py> {
    /// There is an outcome.
    Done(Result<Bound<'py, PyAny>, Raised<'py>>),
    /// Not yet; what is to be yielded for it.
    Waits(Awaited, Bound<'py, PyAny>),
}

impl<'py> Progress<'py> {
    /// What came of a future that is done.
    #[inline]
    fn settled(future: &Bound<'py, Future>) -> Self {
        match Future::failure(future) {
            Ok(Some(exception)) => Self::Done(Err(raise::in_context(raise::exception(exception)))),
            Ok(None) => Self::Done(Ok(future.get().value(future.py()))),
            Err(error) => Self::failed(future.py(), error),
        }
    }

    #[cold]
    fn failed(py: Python<'py>, error: PyErr) -> Self {
        Self::Done(Err(raise::raised(py, error)))
    }
}

impl Awaited {
    /// Begins to await `object`. Runs Python code.
    pub(super) fn begin(object: Bound<'_, PyAny>) -> Progress<'_> {
        let py = object.py();
        if let Some(future) = Future::native(&object) {
            if !future.get().is_pending(py) {
                return Progress::settled(future);
            }
            future.get().blocking.set(py, true);
            return Progress::Waits(Self::Future(future.clone().unbind()), object.clone());
        }
        if coroutine::is_native(&object)
            || coroutine::is_awaitable_generator(&object)
            || object.is_exact_instance_of::<Coroutine>()
        {
            return Self::advance(object, None);
        }
        match object.call_method0(intern!(py, "__await__")) {
            Ok(iterator) if iterator.cast::<PyIterator>().is_ok() && !coroutine::is_awaitable_generator(&iterator) => {
                Self::advance(iterator, None)
            }
            Ok(other) => Progress::failed(py, no_iterator(&object, &other)),
            Err(error) => Progress::failed(py, not_awaitable(&object, error)),
        }
    }

    /// Goes on when the coroutine is resumed, or when `failure` is thrown into it. Runs Python code.
    pub(super) fn resume<'py>(self, py: Python<'py>, failure: Option<Bound<'py, PyAny>>) -> Progress<'py> {
        match (self, failure) {
            (Self::Iterator(iterator), failure) => Self::advance(iterator.into_bound(py), failure),
            (_, Some(failure)) => Progress::Done(Err(raise::exception(failure))),
            (Self::Turn, None) => Progress::Done(Ok(py.None().into_bound(py))),
            (Self::Future(future), None) => Self::resume_future(future.into_bound(py)),
        }
    }

    /// A future that is not done is yielded again: another task has come to the same coroutine.
    fn resume_future(future: Bound<'_, Future>) -> Progress<'_> {
        let py = future.py();
        if !future.get().is_pending(py) {
            return Progress::settled(&future);
        }
        if future.get().blocking.replace(py, true) {
            return Progress::failed(py, PyRuntimeError::new_err("await wasn't used with future"));
        }
        Progress::Waits(Self::Future(future.clone().unbind()), future.into_any())
    }

    fn advance<'py>(iterator: Bound<'py, PyAny>, failure: Option<Bound<'py, PyAny>>) -> Progress<'py> {
        let py = iterator.py();
        let step = match failure {
            None => coroutine::send_none(&iterator),
            Some(failure) => match iterator.hasattr(intern!(py, "throw")) {
                Ok(true) => coroutine::throw(&iterator, &failure),
                Ok(false) => Step::Raised(raise::exception(failure)),
                Err(error) => Step::failed(py, error),
            },
        };
        match step {
            Step::Yielded(yielded) => Progress::Waits(Self::Iterator(iterator.unbind()), yielded),
            Step::Returned(value) => Progress::Done(Ok(value)),
            Step::Raised(exception) => Progress::Done(Err(exception)),
        }
    }

    pub(super) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Turn => Ok(()),
            Self::Future(future) => visit.call(future),
            Self::Iterator(iterator) => visit.call(iterator),
        }
    }
}

/// What `await object` raises if the `__await__` of `object` returns `other`, which is often None for want of a
/// `yield`.
#[cold]
fn no_iterator(object: &Bound<'_, PyAny>, other: &Bound<'_, PyAny>) -> PyErr {
    let is_new = other.py().version_info() >= (3, 15);
    let class = object.get_type().fully_qualified_name();
    let name = if is_new { other.get_type().fully_qualified_name() } else { other.get_type().name() };
    let (Ok(class), Ok(name)) = (class, name) else {
        return PyTypeError::new_err("__await__() returned no iterator");
    };
    let is_coroutine = coroutine::is_native(other) || coroutine::is_awaitable_generator(other);
    PyTypeError::new_err(match is_new {
        true if is_coroutine => format!("{class}.__await__() must return an iterator, not coroutine"),
        true => format!("{class}.__await__() must return an iterator, not {name}"),
        false if is_coroutine => "__await__() returned a coroutine".to_owned(),
        false => format!("__await__() returned non-iterator of type '{name}'"),
    })
}

/// What `await object` raises if it is the object that has no `__await__`; the error if it is something else.
#[cold]
fn not_awaitable(object: &Bound<'_, PyAny>, error: PyErr) -> PyErr {
    let py = object.py();
    let class = object.get_type();
    match (class.hasattr(intern!(py, "__await__")), class.name()) {
        (Ok(false), Ok(name)) if py.version_info() >= (3, 14) => {
            PyTypeError::new_err(format!("'{name}' object can't be awaited"))
        }
        (Ok(false), Ok(name)) => PyTypeError::new_err(format!("object {name} can't be used in 'await' expression")),
        _ => error,
    }
}
