//! Objects that go with the last object that had them.
//!
//! A future can be the result of another, and that of a third: when the first goes, they all do, each from within the
//! end of the one before. A program decides how many there are, and a thread's stack ends somewhere. So only so many go
//! inside each other; those beyond wait until the outermost is done. It is what the interpreter does for its own
//! containers.

use pyo3::PyClass;
use pyo3::ffi;
use pyo3::prelude::*;

use super::cell::{GilCell, GilCopy};

/// How many objects are destroyed inside each other. The interpreter takes 50 of its own.
const DEEPEST: usize = 50;

/// How many are being destroyed.
static DEPTH: GilCopy<usize> = GilCopy::new(0);

static WAITING: GilCell<Vec<Waiting>> = GilCell::new(Vec::new());

/// An object whose count has fallen to zero.
struct Waiting {
    object: *mut ffi::PyObject,
    /// Whether the collector followed it, which it must not do meanwhile.
    was_tracked: bool,
    destroy: Destroy,
}

/// A `tp_dealloc`.
type Destroy = unsafe extern "C" fn(*mut ffi::PyObject);

// SAFETY: a pointer that nobody else has, used with the interpreter lock held.
unsafe impl Send for Waiting {}

/// Runs `now`, which destroys `object`, or has `destroy`, which comes back here, called for it when those are done that
/// are being destroyed.
///
/// # Safety
///
/// `object` is one of a class that the collector knows, and its count has fallen to zero; `destroy` is its class's
/// `tp_dealloc`, or that of a class it extends, which has been called for it.
#[inline]
pub(super) unsafe fn destroy(py: Python<'_>, object: *mut ffi::PyObject, destroy: Destroy, now: impl FnOnce()) {
    if DEPTH.get(py) >= DEEPEST {
        // SAFETY: as the function's.
        unsafe { wait(py, object, destroy) };
        return;
    }
    // Counted up and down, and not put back: another thread may come here while Python code runs.
    DEPTH.set(py, DEPTH.get(py) + 1);
    now();
    if DEPTH.get(py) == 1 {
        destroy_waiting(py);
    }
    DEPTH.set(py, DEPTH.get(py) - 1);
}

/// # Safety
///
/// As for [`destroy`].
#[cold]
unsafe fn wait(py: Python<'_>, object: *mut ffi::PyObject, destroy: Destroy) {
    // SAFETY: the object is there until it is destroyed.
    let was_tracked = unsafe {
        let was_tracked = ffi::PyObject_GC_IsTracked(object) != 0;
        ffi::PyObject_GC_UnTrack(object.cast());
        was_tracked
    };
    WAITING.with(py, |waiting| waiting.push(Waiting { object, was_tracked, destroy }));
}

#[inline]
fn destroy_waiting(py: Python<'_>) {
    while let Some(Waiting { object, was_tracked, destroy }) = WAITING.with(py, Vec::pop) {
        // SAFETY: an object that was about to be destroyed, and is now as it was then.
        unsafe {
            if was_tracked {
                ffi::PyObject_GC_Track(object.cast());
            }
            destroy(object);
        }
    }
}

/// What PyO3 destroys objects of a class by, for each class that is guarded.
static UNGUARDED: GilCell<Vec<(usize, Destroy)>> = GilCell::new(Vec::new());

/// Has objects of a class that is not pooled destroyed so. To be called once, before an object or a subclass exists.
pub(crate) fn guard<T: PyClass>(py: Python<'_>) {
    let class = T::type_object_raw(py);
    // SAFETY: PyO3 makes a heap type whose slots may be set until it is used.
    unsafe {
        if let Some(unguarded) = (*class).tp_dealloc.replace(guarded::<T>) {
            UNGUARDED.with(py, |all| all.push((class.addr(), unguarded)));
        }
        ffi::PyType_Modified(class);
    }
}

unsafe extern "C" fn guarded<T: PyClass>(object: *mut ffi::PyObject) {
    // SAFETY: called by the interpreter, with its lock held, on an object of the class or of a subclass whose count
    // fell to zero.
    unsafe {
        let py = Python::assume_attached();
        let class = T::type_object_raw(py).addr();
        let unguarded = UNGUARDED.with(py, |all| all.iter().find(|(of, _)| *of == class).map(|(_, it)| *it));
        if let Some(unguarded) = unguarded {
            destroy(py, object, guarded::<T>, || unguarded(object));
        }
    }
}
