//! What a handle calls, and in which context.

use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use pyo3::{PyTraverseError, intern};

use crate::contexts::LazyContext;
use crate::ffi::{call, context};

/// The arguments of a callback.
#[derive(Debug)]
pub(crate) enum Arguments {
    None,
    One(Py<PyAny>),
    Many(Py<PyTuple>),
}

impl Arguments {
    /// Takes the shortest form that holds `arguments`.
    #[inline]
    pub(crate) fn new(arguments: Bound<'_, PyTuple>) -> Self {
        if arguments.is_empty() { Self::None } else { Self::Many(arguments.unbind()) }
    }

    pub(super) fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::None => Self::None,
            Self::One(argument) => Self::One(argument.clone_ref(py)),
            Self::Many(arguments) => Self::Many(arguments.clone_ref(py)),
        }
    }

    #[inline]
    pub(super) fn dispose(self, py: Python<'_>) {
        match self {
            Self::None => {}
            Self::One(argument) => drop(argument.into_bound(py)),
            Self::Many(arguments) => drop(arguments.into_bound(py)),
        }
    }

    pub(super) fn to_tuple<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        match self {
            Self::None => Ok(PyTuple::empty(py)),
            Self::One(argument) => PyTuple::new(py, [argument]),
            Self::Many(arguments) => Ok(arguments.bind(py).clone()),
        }
    }

    pub(super) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::None => Ok(()),
            Self::One(argument) => visit.call(argument),
            Self::Many(arguments) => visit.call(arguments),
        }
    }
}

/// What a handle calls; taken out as a whole when it is cancelled, so that nothing is kept alive by a handle that is.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) callback: Py<PyAny>,
    pub(super) arguments: Arguments,
    pub(super) context: LazyContext,
}

impl Work {
    pub(super) fn clone_ref(&self, py: Python<'_>) -> Self {
        Self {
            callback: self.callback.clone_ref(py),
            arguments: self.arguments.clone_ref(py),
            context: self.context.clone_ref(py),
        }
    }

    /// Calls the callback in `context`. Runs Python code.
    #[inline]
    pub(super) fn call_in<'py>(&self, context: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = context.py();
        let callback = self.callback.bind(py);
        if !context::is_context(context) {
            return run_in_other(context, callback, &self.arguments);
        }
        context::run_in(context.as_borrowed(), || match &self.arguments {
            Arguments::None => call::call0(callback),
            Arguments::One(argument) => call::call1(callback, argument.bind(py)),
            Arguments::Many(arguments) => call::call_tuple(callback, arguments.bind(py)),
        })
        .flatten()
    }

    #[inline]
    pub(super) fn dispose(self, py: Python<'_>) {
        drop(self.callback.into_bound(py));
        self.arguments.dispose(py);
        self.context.dispose(py);
    }
}

/// Calls the callback in what is no context, but may behave as one.
#[cold]
fn run_in_other<'py>(
    context: &Bound<'py, PyAny>,
    callback: &Bound<'py, PyAny>,
    arguments: &Arguments,
) -> PyResult<Bound<'py, PyAny>> {
    let py = context.py();
    let arguments = arguments.to_tuple(py)?;
    let arguments = std::iter::once(callback.clone()).chain(arguments.iter()).collect::<Vec<_>>();
    context.call_method1(intern!(py, "run"), PyTuple::new(py, arguments)?)
}
