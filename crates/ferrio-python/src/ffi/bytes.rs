//! A `bytes` object that the operating system writes into.

use std::hint::black_box;
use std::io;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering};

use ferrio::net::Transfer;
use pyo3::exceptions::PyOverflowError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

unsafe extern "C" {
    /// PyO3 keeps its declaration to itself. The function is not in the stable interface, but in every version's.
    fn _PyBytes_Resize(bytes: *mut *mut ffi::PyObject, length: ffi::Py_ssize_t) -> std::ffi::c_int;
}

/// Makes a `bytes` of `content`, in one allocation. Runs no Python code.
///
/// # Errors
///
/// `MemoryError`.
#[inline]
pub(crate) fn copy<'py>(py: Python<'py>, content: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    // The length of a slice fits.
    let (start, length) = (content.as_ptr().cast(), content.len() as ffi::Py_ssize_t);
    // SAFETY: as many bytes are copied from `start` as are there; returns null with an exception set.
    unsafe {
        Ok(Bound::from_owned_ptr_or_err(py, ffi::PyBytes_FromStringAndSize(start, length))?.cast_into_unchecked())
    }
}

/// Has the C library's allocator keep blocks of up to `size` bytes for the next that are asked for.
///
/// glibc gives a block of more than 128 KiB a mapping of its own, and unmaps it when it is freed; and what is free at
/// the end of the heap it gives back to the kernel as soon as that is twice as much. Both limits rise to the largest
/// such block that is freed, but what was made with room to spare is freed as less. So it is given such a block.
/// Without it, the memory of large messages comes and goes page by page, which takes longer than to receive them.
pub(crate) fn keep_memory(size: usize) {
    /// From 32 MiB on a block has a mapping of its own in any case.
    const MOST: usize = 31 << 20;
    /// What it keeps from the start.
    static LARGEST: AtomicUsize = AtomicUsize::new(128 << 10);
    let size = size.min(MOST);
    if size > LARGEST.load(Ordering::Relaxed) {
        LARGEST.store(size, Ordering::Relaxed);
        let mut block = Vec::<u8>::new();
        // Without memory for it, nothing is lost.
        _ = block.try_reserve_exact(size);
        drop(black_box(block));
    }
}

/// What came of receiving into a new `bytes`: the bytes, `None` if that would block, an error of the connection's.
pub(crate) type Received<T> = io::Result<Option<T>>;

/// A `bytes`, and another for what the first had no room for.
pub(crate) type TwoBytes<'py> = (Bound<'py, PyBytes>, Option<Bound<'py, PyBytes>>);

/// Makes a `bytes` of at most `room` bytes, filled by `fill`. Runs no Python code.
///
/// # Errors
///
/// `MemoryError`.
pub(crate) fn receive<'py>(
    py: Python<'py>,
    room: usize,
    fill: impl FnOnce(&mut [MaybeUninit<u8>]) -> io::Result<Transfer>,
) -> PyResult<Received<Bound<'py, PyBytes>>> {
    let mut bytes = Unfilled::new(py, room)?;
    match fill(bytes.room()) {
        // SAFETY: `fill` reports how many bytes it has set.
        Ok(Transfer::Done(received)) => Ok(Ok(Some(unsafe { bytes.filled(received.min(room)) }?))),
        Ok(Transfer::WouldBlock) => Ok(Ok(None)),
        Err(error) => Ok(Err(error)),
    }
}

/// As [`receive`], into two objects of at most `rooms` bytes, the second for what the first has no room for. Without
/// such, there is no second.
///
/// # Errors
///
/// `MemoryError`.
pub(crate) fn receive_two<'py>(
    py: Python<'py>,
    rooms: [usize; 2],
    fill: impl FnOnce(&mut [MaybeUninit<u8>], &mut [MaybeUninit<u8>]) -> io::Result<Transfer>,
) -> PyResult<Received<TwoBytes<'py>>> {
    let (mut first, mut second) = (Unfilled::new(py, rooms[0])?, Unfilled::new(py, rooms[1])?);
    match fill(first.room(), second.room()) {
        Ok(Transfer::Done(received)) => {
            let rest = received.saturating_sub(rooms[0]).min(rooms[1]);
            // SAFETY: `fill` reports how many bytes it has set, those of the first object before those of the second.
            let (first, second) = unsafe {
                (first.filled(received.min(rooms[0]))?, if rest == 0 { None } else { Some(second.filled(rest)?) })
            };
            Ok(Ok(Some((first, second))))
        }
        Ok(Transfer::WouldBlock) => Ok(Ok(None)),
        Err(error) => Ok(Err(error)),
    }
}

/// A `bytes` that nobody else has seen, of which not all bytes need be set.
struct Unfilled<'py>(Bound<'py, PyBytes>);

impl<'py> Unfilled<'py> {
    fn new(py: Python<'py>, room: usize) -> PyResult<Self> {
        let length = as_length(room)?;
        // SAFETY: a null pointer asks for an object whose bytes are not set; returns null with an exception set.
        let bytes =
            unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyBytes_FromStringAndSize(std::ptr::null(), length))? };
        // SAFETY: that is what the function makes.
        Ok(Self(unsafe { bytes.cast_into_unchecked() }))
    }

    /// Where the bytes are to be.
    fn room(&mut self) -> &mut [MaybeUninit<u8>] {
        let start = self.start();
        // SAFETY: the object has so many bytes, and nobody else refers to it; or it is the empty one, which has none.
        unsafe { std::slice::from_raw_parts_mut(start, self.len()) }
    }

    fn start(&self) -> *mut MaybeUninit<u8> {
        // SAFETY: the object is alive.
        unsafe { ffi::PyBytes_AS_STRING(self.0.as_ptr()).cast_mut().cast() }
    }

    fn len(&self) -> usize {
        // SAFETY: the object is alive.
        unsafe { ffi::Py_SIZE(self.0.as_ptr()) }.unsigned_abs()
    }

    /// The object, shrunk to its first `count` bytes.
    ///
    /// # Safety
    ///
    /// They are set, and there are as many.
    unsafe fn filled(self, count: usize) -> PyResult<Bound<'py, PyBytes>> {
        // SAFETY: nobody else has seen the object.
        Ok(unsafe { self.resized(count) }?.0)
    }

    /// The object with `length` bytes: the first of them as they were, as far as there were any.
    ///
    /// # Safety
    ///
    /// Nobody else refers to it, unless it is the empty one, which stays as it is.
    unsafe fn resized(self, length: usize) -> PyResult<Self> {
        let py = self.0.py();
        let is_right = length == self.len();
        let length = as_length(length)?;
        let mut object = self.0.into_ptr();
        if !is_right {
            // SAFETY: `object` is the only reference to a `bytes` without a hash, or the empty one; it is replaced, or
            // freed and set to null when the call fails. The result is what the object says.
            unsafe { _PyBytes_Resize(&raw mut object, length) };
        }
        // SAFETY: `object` is an owned `bytes`, or null with an exception set.
        Ok(Self(unsafe { Bound::from_owned_ptr_or_err(py, object)?.cast_into_unchecked() }))
    }
}

fn as_length(length: usize) -> PyResult<ffi::Py_ssize_t> {
    ffi::Py_ssize_t::try_from(length)
        .map_err(|_| PyOverflowError::new_err("Python int too large to convert to C ssize_t"))
}

/// A `bytes` that is made in pieces. Nobody else sees it before all of it is there.
#[derive(Debug)]
pub(crate) struct Growing {
    bytes: Py<PyBytes>,
    filled: usize,
}

impl Growing {
    /// One that is to have `length` bytes.
    ///
    /// # Errors
    ///
    /// `MemoryError`.
    pub(crate) fn new(py: Python<'_>, length: usize) -> PyResult<Self> {
        Ok(Self { bytes: Unfilled::new(py, length)?.0.unbind(), filled: 0 })
    }

    /// How many bytes there are to be.
    pub(crate) fn len(&self, py: Python<'_>) -> usize {
        Unfilled(self.bytes.bind(py).clone()).len()
    }

    /// How many there are.
    pub(crate) fn filled(&self) -> usize {
        self.filled
    }

    /// Those that are there.
    pub(crate) fn as_slice(&self, py: Python<'_>) -> &[u8] {
        let start = Unfilled(self.bytes.bind(py).clone()).start();
        // SAFETY: so many bytes are set, of an object that lives as long as this.
        unsafe { std::slice::from_raw_parts(start.cast(), self.filled) }
    }

    /// Has `fill` set the next bytes, at most `most` of them. Runs no Python code.
    ///
    /// # Errors
    ///
    /// Those of `fill`.
    pub(crate) fn receive(
        &mut self,
        py: Python<'_>,
        most: usize,
        fill: impl FnOnce(&mut [MaybeUninit<u8>]) -> io::Result<Transfer>,
    ) -> io::Result<Transfer> {
        let mut bytes = Unfilled(self.bytes.bind(py).clone());
        let room = &mut bytes.room()[self.filled..];
        let most = most.min(room.len());
        let received = fill(&mut room[..most]);
        if let Ok(Transfer::Done(count)) = received {
            self.filled += count.min(most);
        }
        received
    }

    /// Puts `data` behind what there is; what there is no room for is returned.
    pub(crate) fn push<'a>(&mut self, py: Python<'_>, data: &'a [u8]) -> &'a [u8] {
        let mut bytes = Unfilled(self.bytes.bind(py).clone());
        let room = &mut bytes.room()[self.filled..];
        let (data, rest) = data.split_at(data.len().min(room.len()));
        // SAFETY: bytes that are set are also such that need not be.
        let data = unsafe { std::slice::from_raw_parts(data.as_ptr().cast::<MaybeUninit<u8>>(), data.len()) };
        room[..data.len()].copy_from_slice(data);
        self.filled += data.len();
        rest
    }

    /// Puts all of `data` behind what there is. If there is no room for it, there is twice as much room afterwards.
    ///
    /// # Errors
    ///
    /// `MemoryError`; what there was is gone then.
    pub(crate) fn extend(&mut self, py: Python<'_>, data: &[u8]) -> PyResult<()> {
        let (needed, length) = (self.filled.saturating_add(data.len()), self.len(py));
        if needed > length {
            let bytes = std::mem::replace(&mut self.bytes, PyBytes::new(py, &[]).unbind());
            let filled = std::mem::take(&mut self.filled);
            let length = needed.max(length.saturating_mul(2));
            keep_memory(length);
            // SAFETY: nobody else refers to the object. What it has more than was set is such that need not be.
            self.bytes = unsafe { Unfilled(bytes.into_bound(py)).resized(length) }?.0.unbind();
            self.filled = filled;
        }
        self.push(py, data);
        Ok(())
    }

    /// Whether all of it is there.
    pub(crate) fn is_whole(&self, py: Python<'_>) -> bool {
        self.filled == self.len(py)
    }

    /// The object, cut to what is there.
    ///
    /// # Errors
    ///
    /// `MemoryError`.
    pub(crate) fn finish(self, py: Python<'_>) -> PyResult<Bound<'_, PyBytes>> {
        // SAFETY: so many bytes are set, of an object that nobody else refers to.
        unsafe { Unfilled(self.bytes.into_bound(py)).filled(self.filled) }
    }
}
