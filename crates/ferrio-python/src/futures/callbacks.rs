//! Who waits for a future.

use std::collections::VecDeque;

use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;

use super::notify::Notify;
use crate::contexts::LazyContext;
use crate::ffi::runnable::Waiter;

/// One that waits.
#[derive(Debug)]
pub(crate) enum Callback {
    /// A task of ours on the future's own loop. When the future is done the task itself is queued; no callback object
    /// exists.
    Wake(Waiter),
    /// An object of ours and what it does, see [`Notify`].
    Notify(Notify),
    /// A callable, to be called with the future in a context.
    Call(Py<PyAny>, LazyContext),
}

impl Callback {
    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Wake(waiter) => visit.call(waiter.object()),
            Self::Notify(notify) => notify.traverse(visit),
            Self::Call(callable, context) => {
                visit.call(callable)?;
                context.traverse(visit)
            }
        }
    }

    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Wake(waiter) => Self::Wake(waiter.clone_ref(py)),
            Self::Notify(notify) => Self::Notify(notify.clone_ref(py)),
            Self::Call(callable, context) => Self::Call(callable.clone_ref(py), context.clone_ref(py)),
        }
    }

    /// Gives up one that will not be called.
    pub(super) fn dispose(self, py: Python<'_>) {
        match self {
            Self::Call(callable, context) => {
                drop(callable.into_bound(py));
                context.dispose(py);
            }
            Self::Wake(_) | Self::Notify(_) => drop(self),
        }
    }

    /// The task that waits, if it is known.
    pub(super) fn awaiter(&self) -> Option<&Py<PyAny>> {
        match self {
            Self::Wake(waiter) => Some(waiter.object()),
            Self::Notify(notify) => notify.awaiter(),
            Self::Call(..) => None,
        }
    }

    pub(super) fn notifies(&self, owner: &Bound<'_, PyAny>) -> bool {
        matches!(self, Self::Notify(notify) if notify.is_of(owner))
    }
}

/// All that wait, in the order in which they came. Nearly always there is one, which needs no allocation.
#[derive(Debug, Default)]
pub(super) enum Callbacks {
    #[default]
    None,
    One(Callback),
    #[expect(clippy::box_collection, reason = "those who have none or one, nearly all, are a word smaller for it")]
    Many(Box<VecDeque<Callback>>),
}

impl Callbacks {
    #[inline]
    pub(super) fn push(&mut self, callback: Callback) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(callback),
            Self::One(first) => Self::Many(Box::new(VecDeque::from([first, callback]))),
            Self::Many(mut callbacks) => {
                callbacks.push_back(callback);
                Self::Many(callbacks)
            }
        }
    }

    #[inline]
    pub(super) fn pop_front(&mut self) -> Option<Callback> {
        if let Self::Many(callbacks) = self {
            return callbacks.pop_front();
        }
        match std::mem::take(self) {
            Self::One(callback) => Some(callback),
            _ => None,
        }
    }

    /// Takes the first one out that `is` it.
    pub(super) fn take_first(&mut self, is: impl Fn(&Callback) -> bool) -> Option<Callback> {
        if let Self::Many(callbacks) = self {
            let index = callbacks.iter().position(is)?;
            return callbacks.remove(index);
        }
        if self.iter().next().is_some_and(is) { self.pop_front() } else { None }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Callback> {
        let (one, many) = match self {
            Self::None => (None, None),
            Self::One(callback) => (Some(callback), None),
            Self::Many(callbacks) => (None, Some(callbacks.iter())),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Callback> {
        let (one, many) = match self {
            Self::None => (None, None),
            Self::One(callback) => (Some(callback), None),
            Self::Many(callbacks) => (None, Some(callbacks.iter_mut())),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    /// Gives up all of them.
    pub(super) fn dispose(self, py: Python<'_>) {
        match self {
            Self::None => {}
            Self::One(callback) => callback.dispose(py),
            Self::Many(callbacks) => callbacks.into_iter().for_each(|callback| callback.dispose(py)),
        }
    }

    pub(super) fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    pub(super) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.iter().try_for_each(|callback| callback.traverse(visit))
    }
}

impl FromIterator<Callback> for Callbacks {
    fn from_iter<I: IntoIterator<Item = Callback>>(callbacks: I) -> Self {
        let mut all = Self::None;
        callbacks.into_iter().for_each(|callback| all.push(callback));
        all
    }
}
