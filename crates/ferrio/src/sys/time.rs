//! Monotonic time.

use std::mem::MaybeUninit;

/// Nanoseconds of `CLOCK_MONOTONIC`.
///
/// By the C library, and not by `rustix`, which looks for the kernel's function in memory by itself: that ends a
/// program under valgrind.
#[inline]
pub fn monotonic() -> i64 {
    let mut now = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the clock exists on every Linux, and the call fills what it is given.
    let now = unsafe {
        libc::clock_gettime(libc::CLOCK_MONOTONIC, now.as_mut_ptr());
        now.assume_init()
    };
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}
