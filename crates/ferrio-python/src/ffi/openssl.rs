//! The OpenSSL that the interpreter's own `_ssl` module has loaded, called directly.
//!
//! `ssl.SSLObject` reads and writes one record a call, each time by way of Python objects and two memory BIOs. Here the
//! same `SSL` is taken out of it, and its data goes straight between the bytes that were received and the protocol's.
//! It shakes hands and closes the same way. All else remains the interpreter's: the object was made by
//! `SSLContext.wrap_bio`, it verifies as the context says, calls its callbacks, raises its errors, and can be asked by
//! the program what it has to tell.
//!
//! # What is known of foreign memory
//!
//! `_ssl` has no C interface. What its objects look like is therefore checked for every connection
//! ([`Session::attach`]), by values whose answer is known from elsewhere:
//!
//! | object | word behind the head | known from |
//! |---|---|---|
//! | `_ssl._SSLSocket` | 0: null, no socket | |
//! | | 1: the `SSL` | what it says of its `SSL_CTX` and of its BIO |
//! | | 2: the `_ssl._SSLContext` | `SSLObject.context` |
//! | `_ssl._SSLContext` | 0: the `SSL_CTX` | `SSL_get_SSL_CTX` |
//! | `_ssl.MemoryBIO` | 0: the `BIO` | `SSL_get_rbio` |
//!
//! The library's functions are looked up in the module's own dependencies, and are taken only if the library names its
//! version as the module does. Where any of it does not fit, there is no session, and the caller does without.

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_ulong, c_void};
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};
use std::sync::OnceLock;

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::buffer::Memory;

#[repr(C)]
struct Ssl([u8; 0]);
#[repr(C)]
struct SslCtx([u8; 0]);
#[repr(C)]
struct Bio([u8; 0]);
#[repr(C)]
struct BioMethod([u8; 0]);

type ReadEx = unsafe extern "C" fn(*mut Bio, *mut c_char, usize, *mut usize) -> c_int;
type WriteEx = unsafe extern "C" fn(*mut Bio, *const c_char, usize, *mut usize) -> c_int;
type Ctrl = unsafe extern "C" fn(*mut Bio, c_int, c_long, *mut c_void) -> c_long;
type Destroy = unsafe extern "C" fn(*mut Bio) -> c_int;

/// Declares the functions that are looked up, all of them or none.
macro_rules! functions {
    ($($name:ident: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        #[allow(non_snake_case, reason = "the library's names")]
        struct Functions {
            $($name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        impl Functions {
            /// # Safety
            ///
            /// `handle` is one of `dlopen`, and what it finds by these names has these types.
            unsafe fn find(handle: *mut c_void) -> Option<Self> {
                // SAFETY: as this function's; a null pointer is no function.
                unsafe {
                    Some(Self {
                        $($name: {
                            let name = concat!(stringify!($name), "\0");
                            let found = NonNull::new(libc::dlsym(handle, name.as_ptr().cast()))?;
                            std::mem::transmute::<
                                NonNull<c_void>,
                                unsafe extern "C" fn($($argument),*) $(-> $result)?,
                            >(found)
                        },)*
                    })
                }
            }
        }
    };
}

functions! {
    OpenSSL_version: fn(c_int) -> *const c_char;
    SSL_get_SSL_CTX: fn(*const Ssl) -> *mut SslCtx;
    SSL_get_rbio: fn(*const Ssl) -> *mut Bio;
    SSL_set_bio: fn(*mut Ssl, *mut Bio, *mut Bio);
    SSL_read_ex: fn(*mut Ssl, *mut c_void, usize, *mut usize) -> c_int;
    SSL_write_ex: fn(*mut Ssl, *const c_void, usize, *mut usize) -> c_int;
    SSL_get_error: fn(*const Ssl, c_int) -> c_int;
    SSL_has_pending: fn(*const Ssl) -> c_int;
    SSL_do_handshake: fn(*mut Ssl) -> c_int;
    SSL_shutdown: fn(*mut Ssl) -> c_int;
    SSL_get_shutdown: fn(*const Ssl) -> c_int;
    SSL_set_shutdown: fn(*mut Ssl, c_int);
    ERR_peek_error: fn() -> c_ulong;
    ERR_clear_error: fn();
    BIO_get_new_index: fn() -> c_int;
    BIO_meth_new: fn(c_int, *const c_char) -> *mut BioMethod;
    BIO_meth_set_read_ex: fn(*mut BioMethod, ReadEx) -> c_int;
    BIO_meth_set_write_ex: fn(*mut BioMethod, WriteEx) -> c_int;
    BIO_meth_set_ctrl: fn(*mut BioMethod, Ctrl) -> c_int;
    BIO_meth_set_destroy: fn(*mut BioMethod, Destroy) -> c_int;
    BIO_new: fn(*const BioMethod) -> *mut Bio;
    BIO_set_data: fn(*mut Bio, *mut c_void);
    BIO_get_data: fn(*mut Bio) -> *mut c_void;
    BIO_set_init: fn(*mut Bio, c_int);
    BIO_set_flags: fn(*mut Bio, c_int);
    BIO_clear_flags: fn(*mut Bio, c_int);
}

impl Functions {
    /// Empties the thread's queue of errors: what somebody has left there would be taken for the next call's. Hardly
    /// ever is there anything, and to look is a good deal quicker than to empty what is empty.
    ///
    /// # Safety
    ///
    /// The functions are the library's.
    #[inline]
    unsafe fn forget_errors(&self) {
        // SAFETY: as this function's; both touch nothing but the thread's own queue.
        unsafe {
            if (self.ERR_peek_error)() != 0 {
                (self.ERR_clear_error)();
            }
        }
    }
}

/// Of OpenSSL's headers; these numbers are part of its binary interface.
const SSL_ERROR_WANT_READ: c_int = 2;
const SSL_ERROR_WANT_WRITE: c_int = 3;
const SSL_ERROR_ZERO_RETURN: c_int = 6;
const SSL_RECEIVED_SHUTDOWN: c_int = 2;
const BIO_TYPE_SOURCE_SINK: c_int = 0x0400;
const BIO_FLAGS_READ: c_int = 0x01;
const BIO_FLAGS_RWS: c_int = 0x07;
const BIO_FLAGS_SHOULD_RETRY: c_int = 0x08;
const BIO_CTRL_PENDING: c_int = 10;
const BIO_CTRL_FLUSH: c_int = 11;
const BIO_CTRL_DUP: c_int = 12;
const BIO_CTRL_WPENDING: c_int = 13;

/// The library, found.
struct Library {
    functions: Functions,
    /// Our kind of BIO.
    method: NonNull<BioMethod>,
}

// SAFETY: functions and a table that is only read once it is made.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

static LIBRARY: OnceLock<Option<Library>> = OnceLock::new();

impl Library {
    /// The library of `_ssl`; `None` if it is not as expected.
    fn get(py: Python<'_>) -> Option<&'static Self> {
        if LIBRARY.get().is_none() {
            // What fails here has a way around it, whatever the reason. Looked for outside of the cell: importing can
            // let another thread run, which would wait for the cell with the interpreter lock held.
            let found = Self::find(py).ok().flatten();
            _ = LIBRARY.set(found);
        }
        LIBRARY.get()?.as_ref()
    }

    fn find(py: Python<'_>) -> PyResult<Option<Self>> {
        let module = py.import(intern!(py, "_ssl"))?;
        let Ok(path) = module.getattr(intern!(py, "__file__"))?.extract::<String>() else { return Ok(None) };
        let Ok(path) = CString::new(path) else { return Ok(None) };
        // SAFETY: a string; with this flag nothing is loaded and no code is run.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOLOAD | libc::RTLD_LAZY) };
        if handle.is_null() {
            return Ok(None);
        }
        // SAFETY: what has these names in OpenSSL and in its relatives has these types, from version 1.1.1 on; that it
        // is OpenSSL is asked before another function is called. The handle is kept for ever.
        let Some(functions) = (unsafe { Functions::find(handle) }) else { return Ok(None) };
        // SAFETY: 0 asks for the version; the string is static.
        let version = unsafe { CStr::from_ptr((functions.OpenSSL_version)(0)) };
        let known = module.getattr(intern!(py, "OPENSSL_VERSION"))?;
        let is_the_modules = version.to_str().is_ok_and(|version| version.starts_with("OpenSSL "))
            && known.cast::<PyString>()?.to_str()?.as_bytes() == version.to_bytes();
        if !is_the_modules {
            return Ok(None);
        }
        // SAFETY: the functions of the library, on a table that it makes and that is never freed.
        unsafe {
            let index = (functions.BIO_get_new_index)();
            let Some(method) = NonNull::new((functions.BIO_meth_new)(index | BIO_TYPE_SOURCE_SINK, c"ferrio".as_ptr()))
            else {
                return Ok(None);
            };
            let table = method.as_ptr();
            let complete = (functions.BIO_meth_set_read_ex)(table, read) == 1
                && (functions.BIO_meth_set_write_ex)(table, write) == 1
                && (functions.BIO_meth_set_ctrl)(table, control) == 1
                && (functions.BIO_meth_set_destroy)(table, destroy) == 1;
            Ok((index != -1 && complete).then_some(Self { functions, method }))
        }
    }
}

/// What a session's BIO reads from and writes to.
struct Pipe {
    input: Vec<u8>,
    /// How much of the input is read.
    position: usize,
    /// Input that is somebody else's, and comes behind the other: a place and a length, which is 0 but within
    /// [`Session::with_input`].
    lent: (*const u8, usize),
    output: Vec<u8>,
}

impl Pipe {
    fn new() -> Self {
        Self { input: Vec::new(), position: 0, lent: (ptr::null(), 0), output: Vec::new() }
    }

    fn own_unread(&self) -> &[u8] {
        self.input.get(self.position..).unwrap_or_default()
    }

    fn unread(&self) -> usize {
        self.own_unread().len() + self.lent.1
    }

    fn read(&mut self, room: usize) -> (*const u8, usize) {
        let own = self.own_unread();
        if !own.is_empty() {
            let (start, length) = (own.as_ptr(), own.len().min(room));
            self.position += length;
            return (start, length);
        }
        let (start, left) = self.lent;
        let length = left.min(room);
        self.lent = (start.wrapping_add(length), left - length);
        (start, length)
    }
}

/// # Safety
///
/// `bio` is one of ours, and nobody else is at its pipe.
unsafe fn pipe<'a>(bio: *mut Bio) -> Option<(&'a mut Pipe, &'static Functions)> {
    // A BIO of ours exists only after the library was found, which holds for ever.
    let functions = &LIBRARY.get()?.as_ref()?.functions;
    // SAFETY: the data of a BIO of ours is its pipe, or null.
    unsafe { Some(((functions.BIO_get_data)(bio).cast::<Pipe>().as_mut()?, functions)) }
}

unsafe extern "C" fn read(bio: *mut Bio, into: *mut c_char, room: usize, count: *mut usize) -> c_int {
    // SAFETY: called by the library for a BIO of ours, by whoever uses the session, who is alone; `room` bytes are at
    // `into`.
    unsafe {
        let Some((pipe, functions)) = pipe(bio) else { return -1 };
        (functions.BIO_clear_flags)(bio, BIO_FLAGS_RWS | BIO_FLAGS_SHOULD_RETRY);
        let (start, length) = pipe.read(room);
        *count = length;
        if length == 0 {
            (functions.BIO_set_flags)(bio, BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY);
            return -1;
        }
        ptr::copy_nonoverlapping(start, into.cast(), length);
    }
    1
}

unsafe extern "C" fn write(bio: *mut Bio, from: *const c_char, length: usize, count: *mut usize) -> c_int {
    // SAFETY: as for `read`; `length` bytes are at `from`.
    unsafe {
        let Some((pipe, functions)) = pipe(bio) else { return -1 };
        (functions.BIO_clear_flags)(bio, BIO_FLAGS_RWS | BIO_FLAGS_SHOULD_RETRY);
        // Of nothing there need not even be a pointer.
        if length > 0 {
            pipe.output.extend_from_slice(std::slice::from_raw_parts(from.cast(), length));
        }
        *count = length;
    }
    1
}

unsafe extern "C" fn control(bio: *mut Bio, command: c_int, _: c_long, _: *mut c_void) -> c_long {
    // SAFETY: as for `read`.
    let Some((pipe, _)) = (unsafe { pipe(bio) }) else { return 0 };
    match command {
        BIO_CTRL_FLUSH | BIO_CTRL_DUP => 1,
        BIO_CTRL_PENDING => pipe.unread() as c_long,
        BIO_CTRL_WPENDING => pipe.output.len() as c_long,
        _ => 0,
    }
}

unsafe extern "C" fn destroy(bio: *mut Bio) -> c_int {
    // SAFETY: called once, by the library, when nothing refers to the BIO any more; the pipe was boxed.
    unsafe {
        if let Some((pipe, functions)) = pipe(bio) {
            let pipe = ptr::from_mut(pipe);
            (functions.BIO_set_data)(bio, ptr::null_mut());
            drop(Box::from_raw(pipe));
        }
    }
    1
}

/// What came of reading or writing.
#[derive(Debug)]
#[must_use]
pub(crate) enum Outcome {
    /// So many bytes.
    Done(usize),
    /// There must be more input first.
    Again,
    /// The peer has said that there will be no more.
    Closed,
    /// It failed. The library's queue has the error: see [`Session::failing`].
    Failed,
}

/// The `SSL` of an `ssl.SSLObject`, on a pipe of our own.
pub(crate) struct Session {
    /// The `_ssl._SSLSocket`, which owns what the pointers point to.
    owner: Py<PyAny>,
    library: &'static Library,
    ssl: NonNull<Ssl>,
    /// The data of the BIO that the `SSL` has.
    pipe: NonNull<Pipe>,
}

// SAFETY: the pointers are as good as the object that owns what they point to, and are used with the interpreter lock
// held.
unsafe impl Send for Session {}
// SAFETY: as above; what changes anything takes the session exclusively.
unsafe impl Sync for Session {}

impl Session {
    /// Takes the `SSL` out of `object`, an `ssl.SSLObject` that has just been made with `incoming`, an `ssl.MemoryBIO`,
    /// and has it read from and write to a pipe of ours from then on. `None` if anything is not as expected; nothing
    /// has changed then.
    pub(crate) fn attach(object: &Bound<'_, PyAny>, incoming: &Bound<'_, PyAny>) -> Option<Self> {
        let py = object.py();
        let library = Library::get(py)?;
        let functions = &library.functions;
        let owner = object.getattr(intern!(py, "_sslobj")).ok()?;
        let context = owner.getattr(intern!(py, "context")).ok()?;
        let [socket, ssl, owners_context] = words::<3>(&owner, "_ssl._SSLSocket")?;
        // `ssl.SSLContext` is a subclass of `_ssl._SSLContext`, whose members come first.
        let [ctx] = words::<1>(&context, "")?;
        let [memory_bio] = words::<1>(incoming, "_ssl.MemoryBIO")?;
        let ssl = NonNull::new(ssl.cast::<Ssl>()).filter(|ssl| ssl.cast::<*mut c_void>().is_aligned())?;
        if !socket.is_null() || !ptr::eq(owners_context.cast(), context.as_ptr()) {
            return None;
        }
        // SAFETY: the word lies between two whose values are known, so it is the member that it is in every version.
        // The functions only look.
        let fits = unsafe {
            ptr::eq((functions.SSL_get_SSL_CTX)(ssl.as_ptr()), ctx.cast())
                && ptr::eq((functions.SSL_get_rbio)(ssl.as_ptr()), memory_bio.cast())
        };
        if !fits {
            return None;
        }
        // SAFETY: the library's own ways to make a BIO and to give it to an `SSL`, which takes over the one reference.
        // The memory BIOs lose the references that the `SSL` had, and keep those of their objects.
        unsafe {
            let bio = NonNull::new((functions.BIO_new)(library.method.as_ptr()))?;
            let pipe = NonNull::from(Box::leak(Box::new(Pipe::new())));
            (functions.BIO_set_data)(bio.as_ptr(), pipe.as_ptr().cast());
            (functions.BIO_set_init)(bio.as_ptr(), 1);
            (functions.SSL_set_bio)(ssl.as_ptr(), bio.as_ptr(), bio.as_ptr());
            Some(Self { owner: owner.unbind(), library, ssl, pipe })
        }
    }

    pub(crate) fn owner(&self) -> &Py<PyAny> {
        &self.owner
    }

    fn functions(&self) -> &'static Functions {
        &self.library.functions
    }

    fn pipe(&mut self) -> &mut Pipe {
        // SAFETY: the owner keeps the BIO, and the BIO its pipe. Whoever has the session exclusively, and is in none of
        // the library's functions, is alone at the pipe.
        unsafe { self.pipe.as_mut() }
    }

    /// Has the session read `data` next, behind what is not read yet. Returns a buffer that is no longer needed.
    pub(crate) fn feed(&mut self, data: Vec<u8>) -> Vec<u8> {
        let pipe = self.pipe();
        if pipe.own_unread().is_empty() {
            pipe.position = 0;
            std::mem::replace(&mut pipe.input, data)
        } else {
            // Moved to the front only when it is grown anyway.
            pipe.input.drain(..pipe.position);
            pipe.position = 0;
            pipe.input.extend_from_slice(&data);
            data
        }
    }

    /// How many bytes of the input are not read.
    pub(crate) fn unread(&mut self) -> usize {
        self.pipe().unread()
    }

    /// Has the session read `data` next, behind what is not read yet, for as long as `f` runs; what is unread then is
    /// kept, which means a copy.
    pub(crate) fn with_input<R>(&mut self, data: &[u8], f: impl FnOnce(&mut Self) -> R) -> R {
        /// Takes the loan back, however `f` ends.
        struct Loan<'a>(&'a mut Session);

        impl Drop for Loan<'_> {
            fn drop(&mut self) {
                let pipe = self.0.pipe();
                let (start, length) = std::mem::replace(&mut pipe.lent, (ptr::null(), 0));
                if length == 0 {
                    return;
                }
                if pipe.own_unread().is_empty() {
                    pipe.position = 0;
                    pipe.input.clear();
                }
                // SAFETY: the end of `data`, which outlives the loan.
                pipe.input.extend_from_slice(unsafe { std::slice::from_raw_parts(start, length) });
            }
        }

        self.pipe().lent = (data.as_ptr(), data.len());
        let loan = Loan(self);
        f(&mut *loan.0)
    }

    /// Whether there is nothing to read: neither in the input nor in the library.
    #[inline]
    pub(crate) fn is_drained(&mut self) -> bool {
        self.pipe().unread() == 0 && !self.has_pending()
    }

    /// Whether the library has something of what it was given: of one record, at most.
    #[inline]
    pub(crate) fn has_pending(&self) -> bool {
        // SAFETY: the owner keeps the `SSL` alive; the function only looks.
        unsafe { (self.functions().SSL_has_pending)(self.ssl.as_ptr()) != 0 }
    }

    /// The input's buffer, if all of it is read.
    pub(crate) fn take_spent(&mut self) -> Vec<u8> {
        let pipe = self.pipe();
        if pipe.own_unread().is_empty() {
            pipe.position = 0;
            std::mem::take(&mut pipe.input)
        } else {
            Vec::new()
        }
    }

    /// What is to be sent.
    pub(crate) fn output(&mut self) -> &mut Vec<u8> {
        &mut self.pipe().output
    }

    /// Reads into `into`, one record at most. Can run Python code: the context's callbacks.
    #[inline]
    pub(crate) fn read(&mut self, _py: Python<'_>, into: &mut [u8]) -> Outcome {
        // SAFETY: as much room is there.
        unsafe { self.read_to(into.as_mut_ptr().cast(), into.len()) }
    }

    /// As [`read`](Self::read), into memory that need not hold anything yet.
    #[inline]
    pub(crate) fn read_uninit(&mut self, _py: Python<'_>, into: &mut [MaybeUninit<u8>]) -> Outcome {
        // SAFETY: as much room is there, and the library only writes.
        unsafe { self.read_to(into.as_mut_ptr().cast(), into.len()) }
    }

    /// As [`read`](Self::read), behind the first `count` bytes of `memory`.
    #[inline]
    pub(crate) fn read_behind(&mut self, _py: Python<'_>, memory: &Memory<'_>, count: usize) -> Outcome {
        let (start, room) = memory.behind(count);
        // SAFETY: as much room is there, and whoever else writes there meanwhile is no Rust.
        unsafe { self.read_to(start.cast(), room) }
    }

    /// # Safety
    ///
    /// The library may write `room` bytes to `start`.
    #[inline]
    unsafe fn read_to(&mut self, start: *mut c_void, room: usize) -> Outcome {
        let mut count = 0;
        let functions = self.functions();
        // SAFETY: as this function's; the owner keeps the `SSL` alive, and the session is used by one at a time.
        unsafe {
            functions.forget_errors();
            let result = (functions.SSL_read_ex)(self.ssl.as_ptr(), start, room, &raw mut count);
            self.outcome(result, count)
        }
    }

    /// Writes all of `from`, which is not empty, or nothing. A write that was to be tried again must have the same
    /// bytes then. Can run Python code: the context's callbacks.
    #[inline]
    pub(crate) fn write(&mut self, _py: Python<'_>, from: &[u8]) -> Outcome {
        let mut count = 0;
        let functions = self.functions();
        // SAFETY: as in `read`.
        unsafe {
            functions.forget_errors();
            let result = (functions.SSL_write_ex)(self.ssl.as_ptr(), from.as_ptr().cast(), from.len(), &raw mut count);
            self.outcome(result, count)
        }
    }

    /// Goes on with the handshake: [`Outcome::Done`] when it is over. Can run Python code: the context's callbacks.
    pub(crate) fn shake_hands(&mut self, _py: Python<'_>) -> Outcome {
        let functions = self.functions();
        // SAFETY: as in `read`.
        unsafe {
            functions.forget_errors();
            let result = (functions.SSL_do_handshake)(self.ssl.as_ptr());
            self.outcome(result, 0)
        }
    }

    /// Says that there will be no more, unless that is said: [`Outcome::Done`] when the peer has said it too. Can run
    /// Python code: the context's callbacks.
    pub(crate) fn close(&mut self, _py: Python<'_>) -> Outcome {
        let functions = self.functions();
        // SAFETY: as in `read`.
        unsafe {
            functions.forget_errors();
            // The first call says it, and answers with 0. The second looks whether the peer has.
            let result = match (functions.SSL_shutdown)(self.ssl.as_ptr()) {
                0 => (functions.SSL_shutdown)(self.ssl.as_ptr()),
                result => result,
            };
            // Twice 0 is the end for the interpreter's module too.
            if result >= 0 { Outcome::Done(0) } else { self.failure(result) }
        }
    }

    /// Runs `f`, which reads by the `SSLObject`, and has it raise what is in the library's queue.
    ///
    /// To make the failed call again would not do: not every failure is for ever, and a handshake that is gone on with
    /// empties the queue first. But reading where the peer has closed ends at once, before anything is touched, and the
    /// object then looks into the queue.
    pub(crate) fn failing<R>(&mut self, f: impl FnOnce() -> R) -> R {
        let functions = self.functions();
        // SAFETY: the owner keeps the `SSL` alive; these functions see to two bits of it.
        let before = unsafe {
            let before = (functions.SSL_get_shutdown)(self.ssl.as_ptr());
            (functions.SSL_set_shutdown)(self.ssl.as_ptr(), before | SSL_RECEIVED_SHUTDOWN);
            before
        };
        let result = f();
        // SAFETY: as above. What the peer has not said must not be known from here on: its session could be used again.
        unsafe { (functions.SSL_set_shutdown)(self.ssl.as_ptr(), before) };
        result
    }

    #[inline]
    fn outcome(&self, result: c_int, count: usize) -> Outcome {
        if result == 1 { Outcome::Done(count) } else { self.failure(result) }
    }

    #[cold]
    fn failure(&self, result: c_int) -> Outcome {
        // SAFETY: as in `read_to`; nothing of the library was called in between.
        match unsafe { (self.functions().SSL_get_error)(self.ssl.as_ptr(), result) } {
            SSL_ERROR_WANT_READ | SSL_ERROR_WANT_WRITE => Outcome::Again,
            SSL_ERROR_ZERO_RETURN => Outcome::Closed,
            _ => Outcome::Failed,
        }
    }
}

/// The first words behind an object's head, if its class has that name and its objects that many words.
fn words<const N: usize>(object: &Bound<'_, PyAny>, class: &str) -> Option<[*mut c_void; N]> {
    let head = size_of::<ffi::PyObject>();
    let class_object = object.get_type();
    let has_name = || {
        // The interpreter's own name of the class, which no program can change.
        // SAFETY: a live class; its name is a string that lives as long.
        unsafe { CStr::from_ptr((*class_object.as_type_ptr()).tp_name) }.to_bytes() == class.as_bytes()
    };
    if !class.is_empty() && !has_name() {
        return None;
    }
    // SAFETY: a live class.
    let size = unsafe { (*class_object.as_type_ptr()).tp_basicsize };
    if usize::try_from(size).ok()? < head + N * size_of::<*mut c_void>() {
        return None;
    }
    // SAFETY: the object is that large, and as aligned as a pointer.
    Some(unsafe { object.as_ptr().byte_add(head).cast::<[*mut c_void; N]>().read() })
}
