//! The bytes of any object that has some: the buffer protocol.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use pyo3::ffi;
use pyo3::prelude::*;

/// Room for a view of an object's memory.
struct View(MaybeUninit<ffi::Py_buffer>);

impl View {
    /// Asks `object` for one block of memory. Can run Python code.
    fn fill(&mut self, object: &Bound<'_, PyAny>, flags: std::ffi::c_int) -> PyResult<Filled<'_>> {
        // SAFETY: a live object and room for one view, which stays where it is until it is released.
        if unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), self.0.as_mut_ptr(), flags) } < 0 {
            return Err(PyErr::fetch(object.py()));
        }
        // SAFETY: filled by the call that succeeded.
        Ok(Filled(unsafe { self.0.assume_init_mut() }))
    }
}

/// A view, which is released when it is dropped; that can run Python code.
struct Filled<'a>(&'a mut ffi::Py_buffer);

impl Drop for Filled<'_> {
    fn drop(&mut self) {
        // SAFETY: filled, and released only here; the interpreter lock is held since the view was filled.
        unsafe { ffi::PyBuffer_Release(self.0) };
    }
}

impl Filled<'_> {
    fn len(&self) -> usize {
        if self.0.buf.is_null() { 0 } else { usize::try_from(self.0.len).unwrap_or(0) }
    }
}

/// Whether `object` has bytes to give.
pub(crate) fn has_bytes(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: looks at the type of a live object.
    unsafe { ffi::PyObject_CheckBuffer(object.as_ptr()) != 0 }
}

/// Memory that foreign functions may write to while Python code runs: nothing of Rust's points into it but this.
pub(crate) struct Memory<'a> {
    start: *mut u8,
    length: usize,
    view: PhantomData<&'a ()>,
}

impl Memory<'_> {
    /// In bytes.
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// What is behind the first `count` bytes, nothing if there are not so many: where it is, and how much.
    pub(super) fn behind(&self, count: usize) -> (*mut u8, usize) {
        let count = count.min(self.length);
        // SAFETY: within the block, or at its end.
        (unsafe { self.start.add(count) }, self.length - count)
    }
}

/// Lends the bytes of `object` to `f`, which may run Python code: `object` keeps them where they are meanwhile.
///
/// # Errors
///
/// As [`with_bytes_mut`].
pub(crate) fn with_memory<R>(object: &Bound<'_, PyAny>, f: impl FnOnce(&Memory<'_>) -> R) -> PyResult<R> {
    let mut view = View(MaybeUninit::uninit());
    let filled = view.fill(object, ffi::PyBUF_WRITABLE)?;
    let start = if filled.0.buf.is_null() { NonNull::dangling().as_ptr() } else { filled.0.buf.cast() };
    Ok(f(&Memory { start, length: filled.len(), view: PhantomData }))
}

/// Shows the bytes of `object` to `f`, which must run no Python code: the object could change its bytes then.
///
/// # Errors
///
/// What the object raises: it has no bytes, or not in one block.
pub(crate) fn with_bytes<R>(object: &Bound<'_, PyAny>, f: impl FnOnce(&[u8]) -> R) -> PyResult<R> {
    let mut view = View(MaybeUninit::uninit());
    let filled = view.fill(object, ffi::PyBUF_SIMPLE)?;
    let (start, length) = (filled.0.buf.cast::<u8>(), filled.len());
    // SAFETY: the view has that many bytes until it is released; nothing that runs meanwhile writes to them. A view
    // without bytes can have no address.
    let bytes = if length == 0 { &[] } else { unsafe { std::slice::from_raw_parts(start, length) } };
    Ok(f(bytes))
}

/// Has `f` write to the bytes of `object`. It must run no Python code.
///
/// # Errors
///
/// What the object raises: it has no bytes, not in one block, or they cannot be written to.
pub(crate) fn with_bytes_mut<R>(object: &Bound<'_, PyAny>, f: impl FnOnce(&mut [u8]) -> R) -> PyResult<R> {
    let mut view = View(MaybeUninit::uninit());
    let filled = view.fill(object, ffi::PyBUF_WRITABLE)?;
    let (start, length) = (filled.0.buf.cast::<u8>(), filled.len());
    // SAFETY: as above, and the view is writable; nothing that runs meanwhile reads or writes the bytes.
    let bytes = if length == 0 { &mut [][..] } else { unsafe { std::slice::from_raw_parts_mut(start, length) } };
    Ok(f(bytes))
}
