//! A value whose destructor cannot unwind.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Holds a value, and ends a panic of its destructor where it begins.
///
/// `async-task` aborts the process when a future or an output panics as it is dropped, for want of a place where the
/// panic could go. The panic hook has told of it by then; nothing else in the program is the worse for it.
#[derive(Debug)]
pub(crate) struct Contained<T>(Option<T>);

impl<T> Contained<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }

    /// The value, which has its own destructor again; `None` if it was taken before.
    pub(crate) fn take(&mut self) -> Option<T> {
        self.0.take()
    }

    pub(crate) fn into_inner(mut self) -> Option<T> {
        self.take()
    }
}

impl<T> Drop for Contained<T> {
    fn drop(&mut self) {
        contain_drop(|| self.0 = None);
    }
}

/// Runs destructors, and ends their panics here.
pub(crate) fn contain_drop(drop: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(drop)) {
        // Its destructor could panic again.
        std::mem::forget(payload);
    }
}
