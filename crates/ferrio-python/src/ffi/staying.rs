//! Calls into the interpreter from which a thread may not come back.
//!
//! When the interpreter ends, before Python 3.14, it ends a daemon thread that asks for the lock, as Python code does
//! every few milliseconds: by `pthread_exit`, which unwinds the stack. The frames of a loop would leave their contexts
//! and drop their references on that way, without the lock. So the thread stays here, for the rest of the process: what
//! Python 3.14 does itself, and PyO3 where it takes the lock.

use std::thread;

use pyo3::ffi::{PyObject, PySendResult};

// Declared here and not taken from PyO3, whose declarations say that they never unwind. The mark in front of the names
// is for the linker, which takes the name as it is, and keeps LLVM from making one function of both declarations.
unsafe extern "C-unwind" {
    #[link_name = "\u{1}PyIter_Send"]
    pub(super) fn PyIter_Send(
        iterator: *mut PyObject,
        value: *mut PyObject,
        result: *mut *mut PyObject,
    ) -> PySendResult;
    #[link_name = "\u{1}PyObject_CallNoArgs"]
    pub(super) fn PyObject_CallNoArgs(callable: *mut PyObject) -> *mut PyObject;
    #[link_name = "\u{1}PyObject_CallOneArg"]
    pub(super) fn PyObject_CallOneArg(callable: *mut PyObject, argument: *mut PyObject) -> *mut PyObject;
    #[link_name = "\u{1}PyObject_Call"]
    pub(super) fn PyObject_Call(
        callable: *mut PyObject,
        arguments: *mut PyObject,
        keywords: *mut PyObject,
    ) -> *mut PyObject;
    #[link_name = "\u{1}PyObject_Vectorcall"]
    pub(super) fn PyObject_Vectorcall(
        callable: *mut PyObject,
        arguments: *const *mut PyObject,
        count: usize,
        names: *mut PyObject,
    ) -> *mut PyObject;
    #[link_name = "\u{1}PyObject_VectorcallMethod"]
    pub(super) fn PyObject_VectorcallMethod(
        name: *mut PyObject,
        arguments: *const *mut PyObject,
        count: usize,
        names: *mut PyObject,
    ) -> *mut PyObject;
}

/// Calls `f`, which calls one of the above, and keeps a thread that unwinds out of it.
#[inline(always)]
pub(super) fn staying<R>(f: impl FnOnce() -> R) -> R {
    let staying = Staying;
    let result = f();
    std::mem::forget(staying);
    result
}

struct Staying;

impl Drop for Staying {
    #[cold]
    fn drop(&mut self) {
        loop {
            thread::park();
        }
    }
}
