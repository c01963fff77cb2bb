//! `tp_finalize`, which PyO3 does not offer.
//!
//! A future reports an exception that nobody fetched, a task that it is destroyed while pending: both hand *themselves*
//! to the loop's exception handler, so they must still be whole, and may be kept by it. That is what `tp_finalize` is
//! for; a Rust `Drop` comes too late.

use std::ffi::c_void;
use std::sync::OnceLock;

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::{PyClass, intern};

unsafe extern "C" {
    /// Part of the C interface, though not of its documentation.
    fn PyDescr_NewWrapper(
        class: *mut ffi::PyTypeObject,
        base: *mut ffi::wrapperbase,
        wrapped: *mut c_void,
    ) -> *mut ffi::PyObject;
}

use super::thread::attach_again;

/// A class that has a last word before it is destroyed.
pub(crate) trait Finalize: PyClass {
    /// Runs once for each object, when it became unreachable; the object may be brought back to life.
    fn finalize(object: &Bound<'_, Self>);

    /// Whether [`finalize`](Self::finalize) has anything to say. Most objects go in silence, and skip the ceremony; it
    /// is not asked where the garbage collector, or a subclass, finalizes. Must not run Python code.
    fn is_due(object: &Bound<'_, Self>) -> bool;

    /// Where [`install`] keeps the deallocator that PyO3 made for the class.
    fn deallocator() -> &'static OnceLock<ffi::destructor>;
}

/// Gives the class its finalizer. To be called once, before an object or a subclass exists.
pub(crate) fn install<T: Finalize>(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<T>().as_type_ptr();
    // SAFETY: PyO3 makes a heap type whose slots may be set until it is used; its deallocator is never null.
    unsafe {
        if let Some(deallocator) = (*class).tp_dealloc {
            // Set once; a second call, by a second interpreter, finds the same function.
            _ = T::deallocator().set(deallocator);
        }
        (*class).tp_dealloc = Some(deallocate::<T>);
    }
    set_finalizer::<T>(py, finalize::<T>)
}

/// Fills `tp_finalize` by way of `__del__`.
///
/// The slot alone would do for the class, and for no subclass that Python defines: those take their slots from the
/// special methods that they find, and know the interpreter's own wrapper of a slot, which has the C function in it.
/// PyO3 makes no such wrapper for `__del__`, so it is made after the one that coroutines have.
pub(super) fn set_finalizer<T: PyClass>(py: Python<'_>, finalizer: ffi::destructor) -> PyResult<()> {
    let class = py.get_type::<T>();
    let coroutine = py.import(intern!(py, "types"))?.getattr(intern!(py, "CoroutineType"))?;
    let model = coroutine.getattr(intern!(py, "__del__"))?;
    // SAFETY: the model is looked into once it is known to be a wrapper. The description that is taken from it is
    // static, and that of a function of `finalizer`'s type. The last call returns a new reference or null.
    let wrapper = unsafe {
        if ffi::Py_IS_TYPE(model.as_ptr(), &raw mut ffi::PyWrapperDescr_Type) == 0 {
            return Err(PyTypeError::new_err("coroutine.__del__ is no slot wrapper"));
        }
        let base = (*model.as_ptr().cast::<ffi::PyWrapperDescrObject>()).d_base;
        Bound::from_owned_ptr_or_err(py, PyDescr_NewWrapper(class.as_type_ptr(), base, finalizer as *mut c_void))?
    };
    class.setattr(intern!(py, "__del__"), wrapper)
}

unsafe extern "C" fn finalize<T: Finalize>(object: *mut ffi::PyObject) {
    // SAFETY: the interpreter calls finalizers with its lock held.
    let py = unsafe { Python::assume_attached() };
    attach_again(py, |py| {
        // An exception that is being handled must be there afterwards too.
        let raised = PyErr::take(py);
        // SAFETY: the interpreter calls finalizers on a live object of the class.
        let object = unsafe { Borrowed::from_ptr(py, object).cast_unchecked::<T>() };
        // A panic must not cross the C frame; what it was about has nobody left to be told.
        _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| T::finalize(&object)));
        if let Some(raised) = raised {
            raised.restore(py);
        }
    });
}

unsafe extern "C" fn deallocate<T: Finalize>(object: *mut ffi::PyObject) {
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
