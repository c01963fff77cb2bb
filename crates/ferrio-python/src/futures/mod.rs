//! `Future`: a result that is not there yet.
//!
//! | file | what |
//! |---|---|
//! | [`future`] | the object's state, and what Rust does with it |
//! | [`callbacks`] | who waits: tasks by themselves, everybody else by a callback |
//! | [`methods`] | what Python sees |
//! | [`iter`] | the iterator behind `iter(future)` |
//!
//! # Budget of an await
//!
//! `await future` allocates nothing: the future is its own iterator (see `__await__`), the task that waits is kept in
//! the future as one reference, and setting the result moves that reference to the loop's ready queue. One system call
//! is made for none of it, and two Python frames are entered: the setter's and the awaiting coroutine's.

mod callbacks;
mod future;
mod iter;
mod methods;

pub(crate) use callbacks::Callback;
pub(crate) use future::{Future, State};
pub(crate) use iter::thrown;
pub(crate) use methods::SetResult;
