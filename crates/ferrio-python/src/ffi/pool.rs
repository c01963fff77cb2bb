//! Objects that come and go with every callback.
//!
//! PyO3 makes and destroys objects by paths that serve every kind of class; for a handle or a future they cost more
//! than the object's whole work. A pooled class is allocated from, and returned to, a free list of its own, and
//! destroyed by the shortest sequence that the interpreter allows: finalizer if it has something to say, weak
//! references, contents, `__dict__`, memory. Only objects of the very class come here; Python subclasses are allocated
//! as any other.
//!
//! # Layout
//!
//! Nothing is assumed of PyO3's layout: contents are reached through `Bound::get`, `__dict__` and the list of weak
//! references through the offsets that the class declares.

use std::cell::UnsafeCell;

use pyo3::ffi;
use pyo3::impl_::pyclass::PyClassBaseType;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::types::PyType;
use pyo3::{Borrowed, PyClass};

use super::cell::GilCell;
use super::{nested, newborn};

/// How many objects a pool keeps. A loop that has more in flight pays for the allocator, as everybody does.
const CAPACITY: usize = 2048;

/// A class with a pool.
pub(crate) trait Pooled: PyClass<Frozen = True> + Sync {
    /// The pooled class that this one extends; `()` if it extends none.
    type Base: Contents;

    /// The class's pool.
    fn pool() -> &'static Pool;

    /// Whether the object is to be [finalized](super::finalizer::Finalize) before it goes. Must not run Python code.
    fn is_last_word_due(_object: &Bound<'_, Self>) -> bool {
        false
    }

    /// Gives up what the object of this very class held.
    ///
    /// A `Py` asks a thread-local whether the lock is held when it is dropped; the ones that every object has are
    /// turned into `Bound` here, which know.
    fn dispose(self, py: Python<'_>);
}

/// A pooled class, or none, as the base of one.
pub(crate) trait Contents {
    /// Whether `class` is, or extends, this one.
    fn is_base_of(class: &Bound<'_, PyType>) -> bool;

    /// Gives up what the object holds as one of this class, then as one of its base's.
    ///
    /// # Safety
    ///
    /// The object is of the class or of one that extends it, and is being destroyed: nothing refers to it, and nothing
    /// looks at these contents afterwards.
    unsafe fn dispose_contents(object: &Bound<'_, PyAny>);
}

impl Contents for () {
    fn is_base_of(_class: &Bound<'_, PyType>) -> bool {
        true
    }

    unsafe fn dispose_contents(_object: &Bound<'_, PyAny>) {}
}

impl<T: Pooled> Contents for T {
    fn is_base_of(class: &Bound<'_, PyType>) -> bool {
        class.is_subclass_of::<T>().unwrap_or(false) && T::Base::is_base_of(class)
    }

    unsafe fn dispose_contents(object: &Bound<'_, PyAny>) {
        // SAFETY: the object is of the class; nobody else refers to the contents, and they are taken out this once. It
        // is of the base class too, as `install` has seen, and that part has not been touched.
        unsafe {
            let contents = std::ptr::from_ref(object.cast_unchecked::<T>().get()).read();
            contents.dispose(object.py());
            T::Base::dispose_contents(object);
        }
    }
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

/// Makes the class use its pool. To be called once, before an object or a subclass exists.
pub(crate) fn install<T: Pooled>(py: Python<'_>) {
    let class = py.get_type::<T>();
    // What `dispose_contents` relies on.
    assert!(T::is_base_of(&class), "a pooled class extends another than it says");
    let class = class.as_type_ptr();
    // SAFETY: PyO3 makes a heap type whose slots may be set until it is used.
    unsafe {
        (*class).tp_alloc = Some(allocate::<T>);
        (*class).tp_dealloc = Some(deallocate::<T>);
        ffi::PyType_Modified(class);
    }
}

/// An object with these contents.
///
/// PyO3 calls the class's `tp_new` for it, by way of `object.__new__`; memory from the pool needs none of that.
#[inline]
pub(crate) fn make<T>(py: Python<'_>, contents: T) -> PyResult<Bound<'_, T>>
where
    T: Pooled<Base = ()> + Into<PyClassInitializer<T>>,
{
    // SAFETY: the class has no base with contents of its own, so those that are written make the object complete.
    unsafe {
        let Some(object) = renew::<T>(py) else {
            return newborn::make(py, contents).map(|object| object.into_bound(py));
        };
        write(&object, contents);
        ffi::PyObject_GC_Track(object.as_ptr().cast());
        Ok(object)
    }
}

/// As [`make`], for a class that extends another with contents.
#[inline]
pub(crate) fn make_derived<T>(py: Python<'_>, base: T::Base, contents: T) -> PyResult<Bound<'_, T>>
where
    T: Pooled<Base: Pooled<Base = ()> + Into<PyClassInitializer<T::Base>>> + PyClass<BaseType = T::Base>,
    T::Base: PyClassBaseType<Initializer = PyClassInitializer<T::Base>>,
{
    // SAFETY: the two contents that are written are all that an object of the class has: its base has no other.
    unsafe {
        let Some(object) = renew::<T>(py) else {
            newborn::has_dict(py);
            return Bound::new(py, base.into().add_subclass(contents));
        };
        write(object.as_any().cast_unchecked::<T::Base>(), base);
        write(&object, contents);
        ffi::PyObject_GC_Track(object.as_ptr().cast());
        Ok(object)
    }
}

/// An object of the class from the pool, which has no contents yet, and which the collector does not know.
///
/// # Safety
///
/// The contents of the class and of those it extends are written before anything else happens.
#[inline]
unsafe fn renew<T: Pooled>(py: Python<'_>) -> Option<Bound<'_, T>> {
    // SAFETY: the lock is held. Memory from the pool is of the class, and all of it but the contents is as in a new
    // object: nothing else has been written to since the last one went, but what `deallocate` has reset.
    unsafe {
        let object = T::pool().pop()?;
        ffi::PyObject_Init(object, T::type_object_raw(py));
        Some(Bound::from_owned_ptr(py, object).cast_into_unchecked::<T>())
    }
}

/// Writes the contents of a [renewed](renew) object, at the place where PyO3 finds them.
///
/// # Safety
///
/// It has none yet.
#[inline]
unsafe fn write<T: Pooled>(object: &Bound<'_, T>, contents: T) {
    // SAFETY: as the function's.
    unsafe {
        let offset = std::ptr::from_ref(object.get()).addr() - object.as_ptr().addr();
        object.as_ptr().byte_add(offset).cast::<T>().write(contents);
    }
}

unsafe extern "C" fn allocate<T: Pooled>(class: *mut ffi::PyTypeObject, items: ffi::Py_ssize_t) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this with its lock held. An object from the pool has the class's size, and to the
    // garbage collector it is as good as new: neither followed nor finalized.
    unsafe {
        let py = Python::assume_attached();
        if (*class).tp_dictoffset > 0 {
            newborn::has_dict(py);
        }
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

unsafe extern "C" fn deallocate<T: Pooled>(object: *mut ffi::PyObject) {
    // SAFETY: called by the interpreter, with its lock held, on an object of the class or of a subclass whose count
    // fell to zero.
    unsafe {
        let py = Python::assume_attached();
        nested::destroy(py, object, deallocate::<T>, || destroy::<T>(py, object));
    }
}

/// # Safety
///
/// As for a `tp_dealloc`.
#[inline]
unsafe fn destroy<T: Pooled>(py: Python<'_>, object: *mut ffi::PyObject) {
    // SAFETY: as the function's. What is done is what `subtype_dealloc` does, in its order.
    unsafe {
        let this = Borrowed::from_ptr(py, object).cast_unchecked::<T>();
        // The helper runs the finalizer unless it ran before, and reports an object that came back to life.
        if T::is_last_word_due(&this) && ffi::PyObject_CallFinalizerFromDealloc(object) < 0 {
            return;
        }
        ffi::PyObject_GC_UnTrack(object.cast());
        let class = T::type_object_raw(py);
        if let Some(list) = slot(object, (*class).tp_weaklistoffset)
            && !(*list).is_null()
        {
            ffi::PyObject_ClearWeakRefs(object);
        }
        T::dispose_contents(this.as_any());
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

/// The last object of a class that came to its end, kept whole.
///
/// An object that is used up before the next is needed, as a coroutine that never waits, need not be destroyed and made
/// again: it is used again. That the place is one is enough for that; others go through the pool.
#[derive(Debug)]
pub(crate) struct Spare<T>(GilCell<Option<Py<T>>>);

impl<T: PyClass> Spare<T> {
    pub(crate) const fn empty() -> Self {
        Self(GilCell::new(None))
    }

    /// Keeps `object`, which is used up, unless one is kept already.
    #[inline]
    pub(crate) fn keep(&self, object: &Bound<'_, T>) {
        self.0.with(object.py(), |spare| {
            if spare.is_none() {
                *spare = Some(object.clone().unbind());
            }
        });
    }

    /// The object that is kept, if nothing else refers to it, weakly included: it is as good as new.
    #[inline]
    pub(crate) fn take<'py>(&self, py: Python<'py>) -> Option<Bound<'py, T>> {
        let spare = self.0.take(py)?.into_bound(py);
        let object = spare.as_ptr();
        // SAFETY: the object is alive, and of the class that declares the offset.
        let is_ours_alone = unsafe {
            ffi::Py_REFCNT(object) == 1
                && slot(object, (*ffi::Py_TYPE(object)).tp_weaklistoffset).is_none_or(|list| (*list).is_null())
        };
        is_ours_alone.then_some(spare)
    }
}
