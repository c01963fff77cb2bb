//! Contexts that are made when they are needed.
//!
//! A task runs in a copy of the context it was made in, and a connection in a copy of its server's. That is an object of
//! the interpreter's, which the allocator and the collector have to look after for as long as the task or the connection
//! is there. But those that are made in a row start with the same values and can share them, as a [`Snapshot`], until the
//! first step, or callback, enters a copy; and what ends in that step, or falls asleep in it, has seldom set a variable or
//! shown its context to anybody. Then the copy is given back for the next one's first step, and the share is all that is
//! kept. What takes a second step has a context of its own from then on.

use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;

use crate::ffi::context;
use crate::ffi::snapshot::Snapshot;

/// What a task or a connection runs in.
#[derive(Debug, Default)]
pub(crate) enum LazyContext {
    /// Nothing yet: a task that is not initialized.
    #[default]
    None,
    /// A context that somebody may know: it was given, or asked for, or is run in.
    Known(Py<PyAny>),
    /// A copy that nobody has seen.
    Copy(Snapshot, Begun),
}

/// Whether the first step has been taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begun {
    No,
    Yes,
}

impl LazyContext {
    /// The context that was given, or else a copy of the current one.
    #[inline]
    pub(crate) fn new(py: Python<'_>, given: Option<Bound<'_, PyAny>>) -> PyResult<Self> {
        if let Some(context) = given {
            return Ok(Self::Known(context.unbind()));
        }
        match Snapshot::of_current(py)? {
            Some(snapshot) => Ok(Self::Copy(snapshot, Begun::No)),
            None => context::copy_current(py).map(Self::Known),
        }
    }

    /// `context`, which was made of `snapshot` and has been run in by the caller, who alone has it.
    pub(crate) fn of(context: Bound<'_, PyAny>, snapshot: Option<Snapshot>) -> Self {
        match snapshot {
            Some(snapshot) if snapshot.is_unchanged(&context, 1) => {
                snapshot.give_back(context);
                Self::Copy(snapshot, Begun::No)
            }
            snapshot => {
                if let Some(snapshot) = snapshot {
                    snapshot.dispose(context.py());
                }
                Self::Known(context.unbind())
            }
        }
    }

    #[inline]
    pub(crate) fn dispose(self, py: Python<'_>) {
        match self {
            Self::None => {}
            Self::Known(context) => drop(context.into_bound(py)),
            Self::Copy(snapshot, _) => snapshot.dispose(py),
        }
    }

    pub(crate) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::None => Ok(()),
            Self::Known(context) => visit.call(context),
            Self::Copy(snapshot, _) => snapshot.traverse(visit),
        }
    }
}

/// A context that was made for one step.
pub(crate) struct Lent(Snapshot);

/// Who has a context.
pub(crate) trait HasContext {
    /// Lets `f` see and change what is there. It must not run Python code.
    fn with_context<R>(&self, py: Python<'_>, f: impl FnOnce(&mut LazyContext) -> R) -> R;

    /// The context, which somebody is about to know; `None` if there is none yet.
    fn context<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
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
    fn context_of_step<'py>(&self, py: Python<'py>) -> PyResult<(Option<Bound<'py, PyAny>>, Option<Lent>)> {
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
    fn give_back(&self, context: Bound<'_, PyAny>, lent: Lent) {
        let py = context.py();
        let Lent(snapshot) = lent;
        // The caller's reference, and the owner's.
        if !snapshot.is_unchanged(&context, 2) {
            snapshot.dispose(py);
            return;
        }
        // Nothing that runs here can look at the owner: the share keeps alive what the context holds.
        self.with_context(py, std::mem::take).dispose(py);
        snapshot.give_back(context);
        self.with_context(py, |own| *own = LazyContext::Copy(snapshot, Begun::Yes));
    }

    #[inline]
    fn known_context<'py>(&self, py: Python<'py>) -> Result<Option<Bound<'py, PyAny>>, (Snapshot, Begun)> {
        self.with_context(py, |own| match own {
            LazyContext::None => Ok(None),
            LazyContext::Known(context) => Ok(Some(context.clone_ref(py).into_bound(py))),
            LazyContext::Copy(snapshot, begun) => Err((snapshot.clone_ref(py), *begun)),
        })
    }

    /// Makes a context of the share, unless there is one by now. Runs Python code.
    #[inline]
    fn make_known<'py>(&self, snapshot: &Snapshot, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let made = snapshot.context(py)?;
        let (context, unused) = self.with_context(py, |own| match own {
            LazyContext::Known(known) => (known.clone_ref(py).into_bound(py), None),
            _ => {
                let known = LazyContext::Known(made.clone().unbind());
                (made, Some(std::mem::replace(own, known)))
            }
        });
        if let Some(unused) = unused {
            unused.dispose(py);
        }
        Ok(context)
    }
}
