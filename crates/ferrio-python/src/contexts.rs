//! Contexts that are made when they are needed.
//!
//! A callback runs in a copy of the context it was scheduled in, a task in a copy of the one it was made in, and a
//! connection in a copy of its server's. That is an object of the interpreter's, which the allocator and the collector
//! have to look after for as long as it is there. But those that are made in a row start with the same values and can
//! share them, as a [`Snapshot`], until one enters its copy.
//!
//! A task or a connection goes on after its first step, or callback. Whatever ends in that, or falls asleep in it, has
//! seldom set a variable or shown its context to anybody. Then the copy is given back for the next one's first step,
//! and the share is all that is kept. What takes a second step has a context of its own from then on.

use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;

use crate::ffi::context;
use crate::ffi::snapshot::Snapshot;

/// What something runs in, whose owner marks a copy with `M`.
#[derive(Debug)]
pub(crate) enum LazyContext<M = ()> {
    /// A context that somebody may know: it was given, or asked for, or is run in.
    Known(Py<PyAny>),
    /// A copy that nobody has seen.
    Copy(Snapshot, M),
}

/// What a task or a connection runs in. `None` for a task that is not initialized, and for what is lost.
pub(crate) type SteppedContext = Option<LazyContext<Begun>>;

/// Whether the first step has been taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Begun {
    #[default]
    No,
    Yes,
}

impl<M: Copy + Default> LazyContext<M> {
    /// The context that was given, or else a copy of the current one.
    #[inline]
    pub(crate) fn new(py: Python<'_>, given: Option<Py<PyAny>>) -> PyResult<Self> {
        if let Some(context) = given {
            return Ok(Self::Known(context));
        }
        match Snapshot::of_current(py)? {
            Some(snapshot) => Ok(Self::Copy(snapshot, M::default())),
            None => context::copy_current(py).map(Self::Known),
        }
    }

    /// `context`, which was made of `snapshot` and has been run in by the caller, who alone has it.
    pub(crate) fn of(context: Bound<'_, PyAny>, snapshot: Option<Snapshot>) -> Self {
        match snapshot {
            Some(snapshot) if snapshot.is_unchanged(&context, 1) => {
                snapshot.give_back(context);
                Self::Copy(snapshot, M::default())
            }
            snapshot => {
                if let Some(snapshot) = snapshot {
                    snapshot.dispose(context.py());
                }
                Self::Known(context.unbind())
            }
        }
    }

    /// The context, for somebody who keeps it in the place of this.
    pub(crate) fn make<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Known(context) => Ok(context.bind(py).clone()),
            Self::Copy(snapshot, _) => snapshot.context(py),
        }
    }

    /// Puts `made` in the place of a copy, which is returned.
    ///
    /// # Errors
    ///
    /// The context that is known, if one is.
    #[inline]
    pub(crate) fn know<'py>(&mut self, made: &Bound<'py, PyAny>) -> Result<Self, Bound<'py, PyAny>> {
        match self {
            Self::Known(known) => Err(known.bind(made.py()).clone()),
            Self::Copy(..) => Ok(std::mem::replace(self, Self::Known(made.clone().unbind()))),
        }
    }

    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Known(context) => Self::Known(context.clone_ref(py)),
            Self::Copy(snapshot, mark) => Self::Copy(snapshot.clone_ref(py), *mark),
        }
    }

    #[inline]
    pub(crate) fn dispose(self, py: Python<'_>) {
        match self {
            Self::Known(context) => drop(context.into_bound(py)),
            Self::Copy(snapshot, _) => snapshot.dispose(py),
        }
    }

    pub(crate) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Known(context) => visit.call(context),
            Self::Copy(snapshot, _) => snapshot.traverse(visit),
        }
    }
}

/// A context made of `snapshot`, which `put` puts in the place of a copy by [`LazyContext::know`], or the one that is
/// known there by now. `None` if there is no such place any more. Runs Python code.
#[inline]
pub(crate) fn make_known<'py, M: Copy + Default>(
    py: Python<'py>,
    snapshot: &Snapshot,
    put: impl FnOnce(&Bound<'py, PyAny>) -> Option<Result<LazyContext<M>, Bound<'py, PyAny>>>,
) -> PyResult<Bound<'py, PyAny>> {
    let made = snapshot.context(py)?;
    match put(&made) {
        Some(Ok(copy)) => {
            copy.dispose(py);
            Ok(made)
        }
        Some(Err(known)) => Ok(known),
        None => Ok(made),
    }
}

/// A context that was made for one step.
pub(crate) struct Lent(Snapshot);

/// Who has a context.
pub(crate) trait HasContext {
    /// Lets `f` see and change what is there. It must not run Python code.
    fn with_context<R>(&self, py: Python<'_>, f: impl FnOnce(&mut SteppedContext) -> R) -> R;

    /// The context, which somebody is about to know; `None` if there is none yet.
    fn context<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.known_context(py) {
            Ok(known) => Ok(known),
            Err((snapshot, _)) => {
                let context = self.make_known(py, &snapshot)?;
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
                let context = self.make_known(py, &snapshot)?;
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
        self.lose_context(py);
        snapshot.give_back(context);
        self.with_context(py, |own| *own = Some(LazyContext::Copy(snapshot, Begun::Yes)));
    }

    /// Drops what is there.
    #[inline]
    fn lose_context(&self, py: Python<'_>) {
        if let Some(own) = self.with_context(py, Option::take) {
            own.dispose(py);
        }
    }

    #[inline]
    fn known_context<'py>(&self, py: Python<'py>) -> Result<Option<Bound<'py, PyAny>>, (Snapshot, Begun)> {
        self.with_context(py, |own| match own {
            None => Ok(None),
            Some(LazyContext::Known(context)) => Ok(Some(context.clone_ref(py).into_bound(py))),
            Some(LazyContext::Copy(snapshot, begun)) => Err((snapshot.clone_ref(py), *begun)),
        })
    }

    #[inline]
    fn make_known<'py>(&self, py: Python<'py>, snapshot: &Snapshot) -> PyResult<Bound<'py, PyAny>> {
        make_known(py, snapshot, |made| self.with_context(py, |own| own.as_mut().map(|own| own.know(made))))
    }
}
