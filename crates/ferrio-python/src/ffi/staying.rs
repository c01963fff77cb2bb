//! Threads that stay where they are when the interpreter ends them.
//!
//! When the interpreter ends, before Python 3.14, it ends a daemon thread that asks for the lock, as Python code does
//! every few milliseconds and everything that waits: by `pthread_exit`, which unwinds the stack. The frames of Rust
//! would leave their contexts and drop their references on that way, without the lock, or be no frames that can be
//! unwound. So the thread stays there, for the rest of the process: what Python 3.14 does itself, and PyO3 where it
//! takes the lock.
//!
//! It could do so wherever Rust calls the interpreter, which is in hundreds of places, many of them not ours. Instead
//! the C library is asked to call us before it unwinds the first frame.

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::thread;

use pyo3::ffi::Py_IsInitialized;

unsafe extern "C" {
    // What `pthread_cleanup_push` is for code that is not compiled with unwinding.
    fn _pthread_cleanup_push(buffer: *mut Buffer, routine: unsafe extern "C" fn(*mut c_void), argument: *mut c_void);
}

/// Room for what the C library writes: a function, its argument, a number and the buffer before.
#[repr(C)]
struct Buffer([*mut c_void; 4]);

thread_local! {
    /// Allocated, as the C library takes its address for the frame in which the handler was pushed, and calls the
    /// handler of a frame that is not among those to be unwound at once.
    static HANDLER: Box<UnsafeCell<Buffer>> = {
        let buffer = Box::new(UnsafeCell::new(Buffer([std::ptr::null_mut(); 4])));
        // SAFETY: the buffer lives until the thread's destructors run, and a thread that has come there unwinds no
        // more. The handler is called with the thread where it was, and if it returns, all is as without it.
        unsafe { _pthread_cleanup_push(buffer.get(), stay_where_you_are, std::ptr::null_mut()) };
        buffer
    };
}

/// From now on, the interpreter's end does not unwind this thread. For threads that call Python code through Rust for
/// long, as who runs a loop.
pub(crate) fn stay() {
    // There is nothing to be done for a thread whose destructors run.
    _ = HANDLER.try_with(|_| ());
}

unsafe extern "C" fn stay_where_you_are(_: *mut c_void) {
    // SAFETY: has no conditions. False from when the interpreter begins to end threads; before, a program ends its own.
    while unsafe { Py_IsInitialized() } == 0 {
        thread::park();
    }
}
