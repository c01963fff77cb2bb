//! The context of a task.
//!
//! A task runs in a copy of the context it was made in. That is an object of the interpreter's, which the allocator and
//! the collector have to look after for as long as the task lives. But tasks that are made in a row start with the same
//! values and can share them, as a [`Snapshot`], until the first step enters a copy; and a task that ends in that step, or
//! falls asleep in it, has seldom set a variable or shown its context to anybody. Then the copy is given back for the
//! next task's first step, and the share is all that is kept. From its second step on a task has a context of its own.

use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;

use super::task::Task;
use crate::ffi::context;
use crate::ffi::snapshot::Snapshot;

/// What the coroutine runs in.
#[derive(Default)]
pub(super) enum TaskContext {
    /// Nothing yet: the task is not initialized.
    #[default]
    None,
    /// A context that somebody may know: it was given, or asked for, or the task runs in it.
    Known(Py<PyAny>),
    /// A copy that nobody has seen.
    Copy(Snapshot, Begun),
}

/// Whether the first step has been taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begun {
    No,
    Yes,
}

impl TaskContext {
    /// That of a task which is being made, in a copy of the current context unless one was given.
    #[inline]
    pub(super) fn new(py: Python<'_>, given: Option<Bound<'_, PyAny>>) -> PyResult<Self> {
        if let Some(context) = given {
            return Ok(Self::Known(context.unbind()));
        }
        match Snapshot::of_current(py)? {
            Some(snapshot) => Ok(Self::Copy(snapshot, Begun::No)),
            None => context::copy_current(py).map(Self::Known),
        }
    }

    #[inline]
    pub(super) fn dispose(self, py: Python<'_>) {
        match self {
            Self::None => {}
            Self::Known(context) => drop(context.into_bound(py)),
            Self::Copy(snapshot, _) => snapshot.dispose(py),
        }
    }

    pub(super) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::None => Ok(()),
            Self::Known(context) => visit.call(context),
            Self::Copy(snapshot, _) => snapshot.traverse(visit),
        }
    }
}

/// A context that was made for one step.
pub(super) struct Lent(Snapshot);

impl Task {
    /// The context, which somebody is about to know; `None` if the task is not initialized.
    pub(super) fn context<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.known_context(py) {
            Ok(known) => Ok(known),
            Err((snapshot, _)) => {
                let context = self.make_known(&snapshot, py)?;
                snapshot.dispose(py);
                Ok(Some(context))
            }
        }
    }

    /// The context for the step that is about to be taken. What is [`Lent`] is to be [given back](Self::give_back).
    #[inline]
    pub(super) fn context_of_step<'py>(&self, py: Python<'py>) -> PyResult<(Option<Bound<'py, PyAny>>, Option<Lent>)> {
        match self.known_context(py) {
            Ok(known) => Ok((known, None)),
            Err((snapshot, begun)) => {
                let context = self.make_known(&snapshot, py)?;
                let lent = match begun {
                    Begun::No => Some(Lent(snapshot)),
                    Begun::Yes => {
                        snapshot.dispose(py);
                        None
                    }
                };
                Ok((Some(context), lent))
            }
        }
    }

    /// After a step: leaves the share in the context's place if the context is as it was.
    #[inline]
    pub(super) fn give_back(&self, context: Bound<'_, PyAny>, lent: Lent) {
        let py = context.py();
        let Lent(snapshot) = lent;
        // The caller's reference, and the task's.
        if !snapshot.is_unchanged(&context, 2) {
            snapshot.dispose(py);
            return;
        }
        // Nothing that runs here can look at the task: the share keeps alive what the context holds.
        self.inner.with(py, |inner| std::mem::take(&mut inner.context)).dispose(py);
        snapshot.give_back(context);
        self.inner.with(py, |inner| inner.context = TaskContext::Copy(snapshot, Begun::Yes));
    }

    #[inline]
    fn known_context<'py>(&self, py: Python<'py>) -> Result<Option<Bound<'py, PyAny>>, (Snapshot, Begun)> {
        self.inner.with(py, |inner| match &inner.context {
            TaskContext::None => Ok(None),
            TaskContext::Known(context) => Ok(Some(context.clone_ref(py).into_bound(py))),
            TaskContext::Copy(snapshot, begun) => Err((snapshot.clone_ref(py), *begun)),
        })
    }

    /// Makes a context of the share, unless there is one by now. Runs Python code.
    #[inline]
    fn make_known<'py>(&self, snapshot: &Snapshot, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let made = snapshot.context(py)?;
        let (context, unused) = self.inner.with(py, |inner| match &inner.context {
            TaskContext::Known(known) => (known.clone_ref(py).into_bound(py), None),
            _ => {
                let known = TaskContext::Known(made.clone().unbind());
                (made, Some(std::mem::replace(&mut inner.context, known)))
            }
        });
        if let Some(unused) = unused {
            unused.dispose(py);
        }
        Ok(context)
    }
}
