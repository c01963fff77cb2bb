//! `Future`: a result that is not there yet.
//!
//! | file | what |
//! |---|---|
//! | [`future`] | the object's state, and what Rust does with it |
//! | [`callbacks`] | who waits: tasks by themselves, what is ours by a notification, everybody else by a callback |
//! | [`notify`] | who is told by Rust that a future is done |
//! | [`awaited_by`] | the edges of the call graph that are not found among the callbacks |
//! | [`methods`] | what Python sees |
//! | [`iter`] | the iterator behind `iter(future)` |
//!
//! # Budget of an await
//!
//! `await future` allocates nothing: the future is its own iterator (see `__await__`), the task that waits is kept in
//! the future as one reference, and setting the result moves that reference to the loop's ready queue. One system call
//! is made for none of it, and two Python frames are entered: the setter's and the awaiting coroutine's.

pub(crate) mod awaited_by;
mod callbacks;
mod future;
mod iter;
mod methods;
mod notify;

pub(crate) use callbacks::Callback;
pub(crate) use future::{Future, State};
pub(crate) use iter::thrown;
pub(crate) use methods::SetResult;
pub(crate) use notify::{Notification, Notified, Notify};
