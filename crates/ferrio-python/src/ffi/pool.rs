//! Objects that come and go with every callback.
//!
//! PyO3 makes and destroys objects by paths that serve every kind of class; for a handle or a future they cost more than
//! the object's whole work. A pooled class is allocated from, and returned to, a free list of its own, and destroyed by
//! the shortest sequence that the interpreter allows: finalizer if it has something to say, weak references, contents,
//! `__dict__`, memory. Only objects of the very class come here; Python subclasses are allocated as any other.
//!
//! # Layout
//!
//! Nothing is assumed of PyO3's layout: contents are reached through `Bound::get`, `__dict__` and the list of weak
//! references through the offsets that the class declares.

use std::cell::UnsafeCell;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::{Borrowed, PyClass};

use super::finalizer::set_finalizer;
use super::thread::attach_again;

/// How many objects a pool keeps. A loop that has more in flight pays for the allocator, as everybody does.
const CAPACITY: usize = 2048;

/// A class with a pool.
pub(crate) trait Pooled: PyClass<Frozen = True> + Sync {
    /// The class's pool.
    fn pool() -> &'static Pool;

    /// Whether objects may have a last word.
    const FINALIZES: bool = false;

    /// Whether the object's last word, [`finalize`](Self::finalize), is due.
    fn has_last_word(_object: &Bound<'_, Self>) -> bool {
        false
    }

    /// Runs once, when the object became unreachable and before anything of it is gone; it may be brought back to life.
    fn finalize(_object: &Bound<'_, Self>) {}

    /// Gives up what the object of this very class held.
    ///
    /// A `Py` asks a thread-local whether the lock is held when it is dropped; the ones that every object has are
    /// turned into `Bound` here, which know.
    fn dispose(self, py: Python<'_>);

    /// Gives up what the object holds, that of its base class included.
    ///
    /// # Safety
    ///
    /// The object is being destroyed: nothing refers to it, and nothing looks at its contents afterwards.
    unsafe fn drop_contents(object: &Bound<'_, Self>) {
        // SAFETY: as this function's.
        unsafe { dispose_own_contents(object) }
    }
}

/// Gives up what the object holds as one of class `T`.
///
/// # Safety
///
/// As for [`Pooled::drop_contents`].
pub(crate) unsafe fn dispose_own_contents<T: Pooled>(object: &Bound<'_, T>) {
    // SAFETY: nobody else refers to the contents, and they are taken out this once.
    let contents = unsafe { std::ptr::from_ref(object.get()).read() };
    contents.dispose(object.py());
}

/// The free list of a class: memory whose object is gone.
pub(crate) struct Pool(UnsafeCell<Vec<*mut ffi::PyObject>>);

// SAFETY: a pool is touched with the interpreter lock held, by functions that run nothing else meanwhile.
unsafe impl Sync for Pool {}

impl Pool {
    pub(crate) const fn new() -> Self {
        Self(UnsafeCell::new(Vec::new()))
    }

    /// # Safety
    ///
    /// The interpreter lock is held.
    unsafe fn pop(&self) -> Option<*mut ffi::PyObject> {
        // SAFETY: see the type; the borrow ends with the call.
        unsafe { (*self.0.get()).pop() }
    }

    /// # Safety
    ///
    /// The interpreter lock is held; `object` is memory of the pool's class that nothing refers to.
    unsafe fn push(&self, object: *mut ffi::PyObject) -> bool {
        // SAFETY: as above.
        let free = unsafe { &mut *self.0.get() };
        let room = free.len() < CAPACITY;
        if room {
            free.push(object);
        }
        room
    }
}

/// Makes the class use its pool and its finalizer. To be called once, before an object or a subclass exists.
pub(crate) fn install<T: Pooled>(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<T>().as_type_ptr();
    // SAFETY: PyO3 makes a heap type whose slots may be set until it is used.
    unsafe {
        (*class).tp_alloc = Some(allocate::<T>);
        (*class).tp_dealloc = Some(deallocate::<T>);
    }
    if T::FINALIZES { set_finalizer::<T>(py, finalize::<T>) } else { Ok(()) }
}

unsafe extern "C" fn allocate<T: Pooled>(class: *mut ffi::PyTypeObject, items: ffi::Py_ssize_t) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this with its lock held. An object from the pool has the class's size, and to the
    // garbage collector it is as good as new: neither followed nor finalized.
    unsafe {
        let py = Python::assume_attached();
        if std::ptr::eq(class, T::type_object_raw(py))
            && let Some(object) = T::pool().pop()
        {
            ffi::PyObject_Init(object, class);
            ffi::PyObject_GC_Track(object.cast());
            return object;
        }
        ffi::PyType_GenericAlloc(class, items)
    }
}

unsafe extern "C" fn finalize<T: Pooled>(object: *mut ffi::PyObject) {
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

unsafe extern "C" fn deallocate<T: Pooled>(object: *mut ffi::PyObject) {
    // SAFETY: called by the interpreter, with its lock held, on an object of the class or of a subclass whose count fell
    // to zero. What is done is what `subtype_dealloc` does, in its order.
    unsafe {
        let py = Python::assume_attached();
        let this = Borrowed::from_ptr(py, object).cast_unchecked::<T>();
        // The helper runs the finalizer unless it ran before, and reports an object that came back to life.
        if T::has_last_word(&this) && ffi::PyObject_CallFinalizerFromDealloc(object) < 0 {
            return;
        }
        ffi::PyObject_GC_UnTrack(object.cast());
        let class = T::type_object_raw(py);
        if let Some(list) = slot(object, (*class).tp_weaklistoffset)
            && !(*list).is_null()
        {
            ffi::PyObject_ClearWeakRefs(object);
        }
        T::drop_contents(&this);
        if let Some(dict) = slot(object, (*class).tp_dictoffset) {
            ffi::Py_CLEAR(dict);
        }
        let actual = ffi::Py_TYPE(object);
        // That an object was finalized cannot be taken back, so such a one, which is rare, does not get into the pool.
        if std::ptr::eq(actual, class) && ffi::PyObject_GC_IsFinalized(object) == 0 && T::pool().push(object) {
            ffi::Py_DECREF(actual.cast());
            return;
        }
        if let Some(free) = (*actual).tp_free {
            free(object.cast());
        }
        ffi::Py_DECREF(actual.cast());
    }
}

/// The pointer at `offset` of an object, if its class has it.
///
/// # Safety
///
/// `offset` is one that the object's class declares, or zero.
unsafe fn slot(object: *mut ffi::PyObject, offset: ffi::Py_ssize_t) -> Option<*mut *mut ffi::PyObject> {
    // SAFETY: the class says that a pointer is there.
    (offset > 0).then(|| unsafe { object.byte_offset(offset).cast() })
}
