//! What the current context holds, for callbacks that are to run in a copy of it.
//!
//! A callback runs in a context that is copied when the callback is scheduled. One copy is cheap. But a thousand
//! callbacks that are scheduled in a row hold a thousand objects, all with the same values, and the interpreter keeps
//! memory for 255; the rest are the allocator's and the collector's, and cost a callback more than everything else that
//! is done for it.
//!
//! The values of a context are an immutable tree, and two contexts with the same tree cannot be told apart until one of
//! them is entered. So callbacks share one copy, a [`Snapshot`], which nobody enters or sees. The context that a
//! callback runs in is made of it when the callback's turn comes, and is used again for the next one if it is as it
//! was: nobody has kept it, nobody has set a variable in it.
//!
//! Nothing is kept beyond the callbacks: when the last snapshot goes, so does what is shared and used again.
//!
//! Whether two contexts hold the same tree can be seen only in their memory. Where it lies is checked when ferrio is
//! imported ([`check_layout`]); with an interpreter that is built otherwise there are no snapshots, and callbacks get
//! copies.

use std::ffi::c_ulong;

use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, ffi};

use super::cell::{GilCell, GilCopy};
use super::{context, refcount};

/// Where a thread's state has its current context, by the version of the interpreter.
const CONTEXT_IN_THREAD: &[(c_ulong, usize)] =
    &[(0x030F, 232), (0x030E, 208), (0x030D, 208), (0x030C, 208), (0x030B, 224)];

/// Where a context has its values: behind the object's head and the context that was entered before it.
const VALUES_IN_CONTEXT: usize = size_of::<ffi::PyObject>() + size_of::<*mut ffi::PyObject>();

/// Where a context has its list of weak references: behind its values.
const WEAK_IN_CONTEXT: usize = VALUES_IN_CONTEXT + size_of::<*mut ffi::PyObject>();

/// The one of this interpreter, if it is as the constants say.
static LAYOUT: GilCopy<Option<Layout>> = GilCopy::new(None);

#[derive(Clone, Copy, Debug)]
struct Layout {
    context_in_thread: usize,
}

static SHARED: GilCell<Shared> = GilCell::new(Shared { snapshot: None, spare: None });

#[derive(Default)]
struct Shared {
    /// The last copy that was made.
    snapshot: Option<Py<PyAny>>,
    /// A context with the values of `snapshot`, which nobody else has.
    spare: Option<Py<PyAny>>,
}

/// The values of a context at some moment.
#[derive(Debug)]
pub(crate) struct Snapshot(Py<PyAny>);

impl Snapshot {
    /// The values of the current context; `None` where there are no snapshots. Runs Python code if they have changed
    /// since the last one.
    #[inline]
    pub(crate) fn of_current(py: Python<'_>) -> PyResult<Option<Self>> {
        let Some(layout) = LAYOUT.get(py) else { return Ok(None) };
        let values = current_values(py, layout);
        let shared = SHARED.with(py, |shared| match &shared.snapshot {
            Some(snapshot) if values.is_some_and(|values| values == values_of(snapshot.bind(py))) => {
                Some(Self(snapshot.clone_ref(py)))
            }
            _ => None,
        });
        match shared {
            Some(snapshot) => Ok(Some(snapshot)),
            None => Self::take(py).map(Some),
        }
    }

    /// The values of `context`; `None` where there are no snapshots.
    pub(crate) fn of(context: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        match LAYOUT.get(context.py()) {
            Some(_) => context::copy(context).map(|copy| Some(Self(copy))),
            None => Ok(None),
        }
    }

    /// Whether these are the values of `context` still.
    pub(crate) fn is_of(&self, context: &Bound<'_, PyAny>) -> bool {
        values_of(context) == values_of(self.0.bind(context.py()))
    }

    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Self {
        Self(self.0.clone_ref(py))
    }

    fn take(py: Python<'_>) -> PyResult<Self> {
        let copy = context::copy_current(py)?;
        let snapshot = Self(copy.clone_ref(py));
        drop(SHARED.replace(py, Shared { snapshot: Some(copy), spare: None }));
        Ok(snapshot)
    }

    /// A context with these values, for one callback to run in.
    #[inline]
    pub(crate) fn context<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(spare) = SHARED.with(py, |shared| shared.spare.take()) {
            let spare = spare.into_bound(py);
            if values_of(&spare) == values_of(self.0.bind(py)) {
                return Ok(spare);
            }
        }
        context::copy(self.0.bind(py)).map(|copy| copy.into_bound(py))
    }

    /// Whether a context that was made of this snapshot has been left as it was, and has no more than so many strong
    /// references: those of whoever asks.
    #[inline]
    pub(crate) fn is_unchanged(&self, context: &Bound<'_, PyAny>, references: isize) -> bool {
        is_unknown(context, references) && self.is_of(context)
    }

    /// Takes back a context that was made of this snapshot, for the next callback, if it is as it was.
    #[inline]
    pub(crate) fn give_back(&self, context: Bound<'_, PyAny>) {
        let py = context.py();
        if !is_unknown(&context, 1) {
            return;
        }
        let unused = SHARED.with(py, |shared| match &shared.snapshot {
            Some(snapshot) if snapshot.is(&self.0) => shared.spare.replace(context.unbind()),
            _ => Some(context.unbind()),
        });
        if let Some(unused) = unused {
            drop(unused.into_bound(py));
        }
    }

    /// Gives the snapshot up. Runs Python code.
    #[inline]
    pub(crate) fn dispose(self, py: Python<'_>) {
        let snapshot = self.0.into_bound(py);
        // This one, and the one that is shared.
        if refcount::count(&snapshot) == 2 {
            forget_if(&snapshot);
        }
    }

    pub(crate) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.0)
    }
}

/// Gives up what is kept for snapshots to come: for a loop that stops, with callbacks that never had their turn.
pub(crate) fn forget(py: Python<'_>) {
    drop(SHARED.take(py));
}

/// Gives up what is kept if `snapshot` is the one that is shared.
fn forget_if(snapshot: &Bound<'_, PyAny>) {
    let py = snapshot.py();
    let left = SHARED.with(py, |shared| {
        let is_shared = shared.snapshot.as_ref().is_some_and(|own| own.is(snapshot));
        is_shared.then(|| std::mem::take(shared))
    });
    if let Some(Shared { snapshot, spare }) = left {
        drop(snapshot.map(|snapshot| snapshot.into_bound(py)));
        drop(spare.map(|spare| spare.into_bound(py)));
    }
}

/// Whether nobody has the context, which has been left, but by those `references`.
#[inline]
fn is_unknown(context: &Bound<'_, PyAny>, references: isize) -> bool {
    // SAFETY: a context, built as `check_layout` has seen.
    refcount::count(context) == references && unsafe { word(context.as_ptr(), WEAK_IN_CONTEXT) }.is_null()
}

/// The address of the tree of a context's values: the same one holds the same values for as long as somebody has it.
#[inline]
fn values_of(context: &Bound<'_, PyAny>) -> *mut ffi::PyObject {
    // SAFETY: a context, built as `check_layout` has seen.
    unsafe { word(context.as_ptr(), VALUES_IN_CONTEXT) }
}

/// As [`values_of`] for the current context; `None` if the thread has none yet.
#[inline]
fn current_values(_py: Python<'_>, layout: Layout) -> Option<*mut ffi::PyObject> {
    // SAFETY: the thread that has the interpreter lock has a state, built as `check_layout` has seen.
    unsafe {
        let context = word(ffi::PyThreadState_Get().cast(), layout.context_in_thread);
        (!context.is_null()).then(|| word(context, VALUES_IN_CONTEXT))
    }
}

/// The pointer at `offset` behind `base`.
///
/// # Safety
///
/// There is one.
#[inline]
unsafe fn word(base: *mut ffi::PyObject, offset: usize) -> *mut ffi::PyObject {
    // SAFETY: as the function's.
    unsafe { base.byte_add(offset).cast::<*mut ffi::PyObject>().read() }
}

/// Finds out whether this interpreter's contexts are built as this module takes them to be. To be called once, at
/// import.
///
/// Only what is known to be memory of the objects is read, and nothing that is found there is followed.
pub(crate) fn check_layout(py: Python<'_>) -> PyResult<()> {
    // SAFETY: a constant of the interpreter.
    let version = unsafe { ffi::Py_Version } >> 16;
    if let Some((_, context_in_thread)) = CONTEXT_IN_THREAD.iter().find(|(of, _)| *of == version) {
        let layout = Layout { context_in_thread: *context_in_thread };
        LAYOUT.set(py, is_as_expected(py, layout)?.then_some(layout));
    }
    Ok(())
}

fn is_as_expected(py: Python<'_>, layout: Layout) -> PyResult<bool> {
    let (one, other) = (context::copy_current(py)?.into_bound(py), context::copy_current(py)?.into_bound(py));
    // SAFETY: the type of a live object.
    let (size, weak) =
        unsafe { ((*one.get_type().as_type_ptr()).tp_basicsize, (*one.get_type().as_type_ptr()).tp_weaklistoffset) };
    if usize::try_from(size).is_ok_and(|size| size < WEAK_IN_CONTEXT + size_of::<usize>())
        || usize::try_from(weak) != Ok(WEAK_IN_CONTEXT)
    {
        return Ok(false);
    }
    let is_current = context::run_in(one.as_borrowed(), || {
        // SAFETY: the state of the thread that has the lock, which has more than this in every version of the list.
        let current = unsafe { word(ffi::PyThreadState_Get().cast(), layout.context_in_thread) };
        current == one.as_ptr()
    })?;
    let refers = py.import("gc")?.call_method1("get_referents", (&one,))?;
    let has_values = refers.try_iter()?.any(|object| object.is_ok_and(|object| object.as_ptr() == values_of(&one)));
    if !(is_current && has_values && values_of(&one) == values_of(&other)) {
        return Ok(false);
    }
    let variable = py.import("contextvars")?.call_method1("ContextVar", ("ferrio",))?;
    context::run_in(other.as_borrowed(), || variable.call_method1("set", (1,)).map(drop))??;
    Ok(values_of(&one) != values_of(&other))
}
