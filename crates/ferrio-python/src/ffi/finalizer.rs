//! `tp_finalize`, which PyO3 does not offer.
//!
//! A future reports an exception that nobody fetched, a task that it is destroyed while pending: both hand *themselves*
//! to the loop's exception handler, so they must still be whole, and may be kept by it. That is what `tp_finalize` is
//! for; a Rust `Drop` comes too late.

use std::sync::OnceLock;

use pyo3::PyClass;
use pyo3::ffi;
use pyo3::prelude::*;

/// A class that has a last word before it is destroyed.
pub(crate) trait Finalize: PyClass {
    /// Runs once for each object, when it became unreachable; the object may be brought back to life.
    fn finalize(object: &Bound<'_, Self>);

    /// Where [`install`] keeps the deallocator that PyO3 made for the class.
    fn deallocator() -> &'static OnceLock<ffi::destructor>;
}

/// Gives the class its finalizer. To be called once, before an object or a subclass exists.
pub(crate) fn install<T: Finalize>(py: Python<'_>) {
    let class = py.get_type::<T>().as_type_ptr();
    // SAFETY: PyO3 makes a heap type whose slots may be set until it is used; its deallocator is never null.
    unsafe {
        if let Some(deallocator) = (*class).tp_dealloc {
            // Set once; a second call, by a second interpreter, finds the same function.
            _ = T::deallocator().set(deallocator);
        }
        (*class).tp_finalize = Some(finalize::<T>);
        (*class).tp_dealloc = Some(deallocate::<T>);
        ffi::PyType_Modified(class);
    }
}

unsafe extern "C" fn finalize<T: Finalize>(object: *mut ffi::PyObject) {
    // SAFETY: the interpreter calls finalizers with its lock held, on a live object of the class, and expects an
    // exception that is being handled to be there afterwards too.
    unsafe {
        let py = Python::assume_attached();
        let raised = PyErr::take(py);
        let object = Borrowed::from_ptr(py, object).cast_unchecked::<T>();
        // A panic must not cross the C frame; what it was about has nobody left to be told.
        _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| T::finalize(&object)));
        if let Some(raised) = raised {
            raised.restore(py);
        }
    }
}

unsafe extern "C" fn deallocate<T: Finalize>(object: *mut ffi::PyObject) {
    // SAFETY: called by the interpreter on an object whose count fell to zero. The helper runs the finalizer unless it
    // ran before, and reports an object that came back to life, which is left alone then.
    unsafe {
        if ffi::PyObject_CallFinalizerFromDealloc(object) < 0 {
            return;
        }
        forget_finalized(object);
        if let Some(deallocator) = T::deallocator().get() {
            deallocator(object);
        }
    }
}

/// Takes back the mark that the object was finalized.
///
/// The mark lies in the collector's header, outside of the object, and so survives in a free list: the next object of
/// that memory would never be finalized, and its exception that nobody fetched be lost without a word. The interpreter
/// does the same for its own free lists, by an inline function that extensions cannot call.
///
/// # Safety
///
/// The object belongs to the garbage collector, and nobody refers to it any more.
unsafe fn forget_finalized(object: *mut ffi::PyObject) {
    const MARK: usize = 1;
    /// Builds with other object headers keep the mark elsewhere.
    const HEADER_IS_KNOWN: bool = size_of::<ffi::PyObject>() == 2 * size_of::<usize>();
    // SAFETY: the collector's header is two words in front of the object, in every build that has its one lock; the
    // lowest bit of the second is the mark, as the public function confirms before and after.
    unsafe {
        if HEADER_IS_KNOWN && ffi::PyObject_GC_IsFinalized(object) != 0 {
            *object.cast::<usize>().sub(1) &= !MARK;
            debug_assert_eq!(ffi::PyObject_GC_IsFinalized(object), 0);
        }
    }
}
