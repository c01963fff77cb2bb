//! `Future`: a result that is not there yet.
//!
//! | file | what |
//! |---|---|
//! | [`future`] | the object's state, and what Rust does with it |
//! | [`callbacks`] | who waits: tasks by themselves, what is ours by a notification, everybody else by a callback |
//! | [`notify`] | who is told by Rust that a future is done |
//! | [`awaited_by`] | the edges of the call graph that are not found among the callbacks |
//! | [`done_callbacks`] | adding and removing callbacks of Python's |
//! | [`methods`] | what Python sees |
//! | [`fast_methods`] | of that, what is called most |
//! | [`iter`] | the iterator behind `iter(future)` |
//!
//! # Budget of an await
//!
//! `await future` allocates nothing: the future is its own iterator (see `__await__`), the task that waits is kept in
//! the future as one reference, and setting the result moves that reference to the loop's ready queue. One system call
//! is made for none of it, and two Python frames are entered: the setter's and the awaiting coroutine's.

pub(crate) mod awaited_by;
mod callbacks;
mod done_callbacks;
mod fast_methods;
mod future;
mod iter;
mod methods;
mod notify;

use pyo3::prelude::*;

use crate::ffi::method;

pub(crate) use callbacks::Callback;
pub(crate) use future::{Future, State};
pub(crate) use iter::thrown;
pub(crate) use notify::{Notification, Notified, Notify};

/// Adds the methods that the class is not declared with. To be called before it is used.
pub(crate) fn install(py: Python<'_>) -> PyResult<()> {
    method::install::<fast_methods::SetResult>(py)?;
    method::install::<fast_methods::Done>(py)?;
    method::install::<fast_methods::Cancel>(py)?;
    method::install::<done_callbacks::AddDoneCallback>(py)?;
    method::install::<done_callbacks::RemoveDoneCallback>(py)
}
