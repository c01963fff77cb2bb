//! Memory that connections use in turn.
//!
//! A connection needs room for what it received and for what it is about to send while it is at work, which is one at a
//! time; thousands of idle ones need none. So a buffer goes back here when it is empty.

use pyo3::prelude::*;

use super::engine::LARGEST_READ;
use crate::ffi::cell::GilCell;

/// A buffer that has grown beyond this many bytes is given back to the allocator.
const LARGEST_KEPT: usize = 2 * LARGEST_READ;

/// Buffers that are empty, the largest that there were.
static SPARE: GilCell<[Vec<u8>; 2]> = GilCell::new([Vec::new(), Vec::new()]);

/// Room for what is decrypted; none while somebody uses it.
static PLAIN: GilCell<Option<Box<[u8]>>> = GilCell::new(None);

/// An empty buffer.
#[inline]
pub(super) fn take(py: Python<'_>) -> Vec<u8> {
    SPARE.with(py, |[first, second]| if first.capacity() > 0 { std::mem::take(first) } else { std::mem::take(second) })
}

/// Gives a buffer back.
#[inline]
pub(super) fn give(py: Python<'_>, mut buffer: Vec<u8>) {
    if buffer.capacity() == 0 || buffer.capacity() > LARGEST_KEPT {
        return;
    }
    buffer.clear();
    SPARE.with(py, |[first, second]| {
        let place = if first.capacity() <= second.capacity() { first } else { second };
        if place.capacity() < buffer.capacity() {
            std::mem::swap(place, &mut buffer);
        }
    });
}

/// Room for [`LARGEST_READ`] bytes.
#[inline]
pub(super) fn take_plain(py: Python<'_>) -> Box<[u8]> {
    PLAIN.take(py).unwrap_or_else(|| vec![0; LARGEST_READ].into_boxed_slice())
}

/// Gives the room back.
#[inline]
pub(super) fn give_plain(py: Python<'_>, room: Box<[u8]>) {
    drop(PLAIN.replace(py, Some(room)));
}
