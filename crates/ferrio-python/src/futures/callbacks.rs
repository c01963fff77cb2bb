//! Who waits for a future.

use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;

use crate::ffi::runnable::Waiter;

/// One that waits.
#[derive(Debug)]
pub(crate) enum Callback {
    /// A task of ours on the future's own loop. When the future is done the task itself is queued; no callback object
    /// exists.
    Wake(Waiter),
    /// A callable, to be called with the future in a context.
    Call(Py<PyAny>, Py<PyAny>),
}

impl Callback {
    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Wake(waiter) => visit.call(waiter.object()),
            Self::Call(callable, context) => {
                visit.call(callable)?;
                visit.call(context)
            }
        }
    }

    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Wake(waiter) => Self::Wake(waiter.clone_ref(py)),
            Self::Call(callable, context) => Self::Call(callable.clone_ref(py), context.clone_ref(py)),
        }
    }
}

/// All that wait, in the order in which they came. Nearly always there is one, which needs no allocation.
#[derive(Debug, Default)]
pub(super) enum Callbacks {
    #[default]
    None,
    One(Callback),
    Many(Vec<Callback>),
}

impl Callbacks {
    pub(super) fn push(&mut self, callback: Callback) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(callback),
            Self::One(first) => Self::Many(vec![first, callback]),
            Self::Many(mut callbacks) => {
                callbacks.push(callback);
                Self::Many(callbacks)
            }
        }
    }

    pub(super) fn as_slice(&self) -> &[Callback] {
        match self {
            Self::None => &[],
            Self::One(callback) => std::slice::from_ref(callback),
            Self::Many(callbacks) => callbacks,
        }
    }

    pub(super) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.as_slice().iter().try_for_each(|callback| callback.traverse(visit))
    }
}

impl FromIterator<Callback> for Callbacks {
    fn from_iter<I: IntoIterator<Item = Callback>>(callbacks: I) -> Self {
        let mut all = Self::None;
        callbacks.into_iter().for_each(|callback| all.push(callback));
        all
    }
}
