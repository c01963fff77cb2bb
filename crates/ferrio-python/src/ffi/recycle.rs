//! What PyO3's free lists leave out.
//!
//! A class with a free list takes its objects from memory that was such an object before. The garbage collector must
//! not tell it from a new one, but does: it does not follow the object, so that a cycle through it is never freed, and
//! believes that it has been finalized if the one before was.

use std::sync::OnceLock;

use pyo3::PyClass;
use pyo3::ffi;
use pyo3::prelude::*;

/// A class with a free list, whose objects the garbage collector follows.
pub(crate) trait Recycle: PyClass {
    /// Where [`install`] keeps the functions that PyO3 made for the class.
    fn slots() -> &'static OnceLock<Slots>;
}

/// How PyO3 takes an object from the free list, and puts it there.
#[derive(Debug)]
pub(crate) struct Slots {
    allocate: ffi::allocfunc,
    free: ffi::freefunc,
}

/// Makes recycled objects as good as new. To be called once, before an object or a subclass exists.
pub(crate) fn install<T: Recycle>(py: Python<'_>) {
    let class = py.get_type::<T>().as_type_ptr();
    // SAFETY: PyO3 makes a heap type whose slots may be set until it is used.
    unsafe {
        if let (Some(allocate), Some(free)) = ((*class).tp_alloc, (*class).tp_free) {
            // Set once; a second call, by a second interpreter, finds the same functions.
            _ = T::slots().set(Slots { allocate, free });
            (*class).tp_alloc = Some(allocate_new::<T>);
            (*class).tp_free = Some(free_old::<T>);
        }
        ffi::PyType_Modified(class);
    }
}

unsafe extern "C" fn allocate_new<T: Recycle>(
    class: *mut ffi::PyTypeObject,
    items: ffi::Py_ssize_t,
) -> *mut ffi::PyObject {
    let Some(slots) = T::slots().get() else { return std::ptr::null_mut() };
    // SAFETY: called as the wrapped function is. What comes from the free list is not followed; PyO3 fills it in before
    // anything can make the collector run.
    unsafe {
        let object = (slots.allocate)(class, items);
        if !object.is_null() && ffi::PyObject_GC_IsTracked(object) == 0 {
            ffi::PyObject_GC_Track(object.cast());
        }
        object
    }
}

unsafe extern "C" fn free_old<T: Recycle>(object: *mut std::ffi::c_void) {
    let Some(slots) = T::slots().get() else { return };
    // SAFETY: called as the wrapped function is, on an object without contents. That an object was finalized cannot be
    // taken back, so such a one, which is rare, does not get into the free list.
    unsafe {
        if ffi::PyObject_GC_IsFinalized(object.cast()) != 0 {
            ffi::PyObject_GC_Del(object);
        } else {
            (slots.free)(object);
        }
    }
}

/// Implements [`Recycle`].
macro_rules! recycle {
    ($($class:ty),*) => {$(
        impl $crate::ffi::recycle::Recycle for $class {
            fn slots() -> &'static std::sync::OnceLock<$crate::ffi::recycle::Slots> {
                static SLOTS: std::sync::OnceLock<$crate::ffi::recycle::Slots> = std::sync::OnceLock::new();
                &SLOTS
            }
        }
    )*};
}
pub(crate) use recycle;
