//! `tp_finalize`, which PyO3 does not offer.
//!
//! A future reports an exception that nobody fetched, a task that it is destroyed while pending: both hand *themselves*
//! to the loop's exception handler, so they must still be whole, and may be kept by it. That is what `tp_finalize` is
//! for; a Rust `Drop` comes too late.

use std::sync::OnceLock;

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::{Borrowed, PyClass};

use super::method::Table;
use super::raise::aside;
use super::thread::attached;

/// A class that has a last word before it is destroyed.
pub(crate) trait Finalize: PyClass {
    /// Runs once for each object, when it became unreachable; the object may be brought back to life.
    fn finalize(object: &Bound<'_, Self>);
}

/// A class that PyO3 destroys, and that is finalized before. (The [pool](super::pool) sees to its classes itself.)
pub(crate) trait FinalizeFirst: Finalize {
    /// Whether [`finalize`](Finalize::finalize) has anything to say. Most objects go in silence, and skip the ceremony;
    /// it is not asked where the garbage collector, or a subclass, finalizes. Must not run Python code.
    fn is_due(object: &Bound<'_, Self>) -> bool;

    /// Where [`install_with_deallocator`] keeps the deallocator that PyO3 made for the class.
    fn deallocator() -> &'static OnceLock<ffi::destructor>;
}

/// Gives the class its finalizer. To be called once, before an object or a subclass exists.
pub(crate) fn install<T: Finalize>(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<T>().as_type_ptr();
    let definition = std::ptr::from_ref(&Del::<T>::TABLE.0).cast_mut();
    // SAFETY: PyO3 makes a heap type whose slots may be set, and whose dictionary be written to, until it is used. The
    // definition is static and only read.
    unsafe {
        // A subclass that Python defines takes the slot from what it finds by this name, and leaves it empty if it
        // finds nothing. Written to the dictionary directly: assigning would change this class's own slot as well.
        let method = Bound::from_owned_ptr_or_err(py, ffi::PyDescr_NewMethod(class, definition))?;
        Bound::from_borrowed_ptr_or_err(py, (*class).tp_dict)?.set_item(intern!(py, "__del__"), method)?;
        (*class).tp_finalize = Some(finalize::<T>);
        (*class).tp_flags |= ffi::Py_TPFLAGS_HAVE_FINALIZE;
        ffi::PyType_Modified(class);
    }
    Ok(())
}

/// [`install`], for a class that PyO3 destroys.
pub(crate) fn install_with_deallocator<T: FinalizeFirst>(py: Python<'_>) -> PyResult<()> {
    install::<T>(py)?;
    let class = py.get_type::<T>().as_type_ptr();
    // SAFETY: as in `install`; the deallocator is never null.
    unsafe {
        if let Some(deallocator) = (*class).tp_dealloc {
            // Set once; a second call, by a second interpreter, finds the same function.
            _ = T::deallocator().set(deallocator);
        }
        (*class).tp_dealloc = Some(deallocate::<T>);
        ffi::PyType_Modified(class);
    }
    Ok(())
}

struct Del<T>(std::marker::PhantomData<T>);

impl<T: Finalize> Del<T> {
    const TABLE: &'static Table = &Table(ffi::PyMethodDef {
        ml_name: c"__del__".as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunction: del::<T> },
        ml_flags: ffi::METH_NOARGS,
        ml_doc: c"__del__($self)\n--\n\nCalled when the object is about to be destroyed.".as_ptr(),
    });
}

unsafe extern "C" fn del<T: Finalize>(object: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this with its lock held, and the descriptor has checked the class.
    unsafe {
        finalize::<T>(object);
        Python::assume_attached().None().into_ptr()
    }
}

unsafe extern "C" fn finalize<T: Finalize>(object: *mut ffi::PyObject) {
    // SAFETY: the interpreter calls finalizers with its lock held.
    attached(unsafe { Python::assume_attached() }, |py| {
        // SAFETY: the interpreter calls finalizers on a live object of the class.
        let object = unsafe { Borrowed::from_ptr(py, object).cast_unchecked::<T>() };
        // An exception that is being handled must be there afterwards too.
        aside(py, || {
            // A panic must not cross the C frame; what it was about has nobody left to be told.
            _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| T::finalize(&object)));
        });
    });
}

unsafe extern "C" fn deallocate<T: FinalizeFirst>(object: *mut ffi::PyObject) {
    // SAFETY: called by the interpreter on an object whose count fell to zero. The helper runs the finalizer unless it
    // ran before, and reports an object that came back to life, which is left alone then.
    unsafe {
        let py = Python::assume_attached();
        let is_due = T::is_due(&Borrowed::from_ptr(py, object).cast_unchecked::<T>());
        if is_due && ffi::PyObject_CallFinalizerFromDealloc(object) < 0 {
            return;
        }
        if let Some(deallocator) = T::deallocator().get() {
            deallocator(object);
        }
    }
}
