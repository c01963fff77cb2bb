//! `Handle` and `TimerHandle`: a callback that waits for its turn.
//!
//! | file | noun |
//! |---|---|
//! | [`handle`] | [`Handle`] |
//! | [`methods`] | what Python sees of it |
//! | [`timer`] | [`TimerHandle`] |
//! | [`given`] | what their classes are called with by Python |
//! | [`sharing`] | what other threads may ask of a handle while its callback runs |
//! | [`debug`] | what handles have and do in debug mode only |
//! | [`work`] | what a handle calls: callback, [`Arguments`] and context |
//!
//! A handle is the object that `call_soon` returns and, at the same time, what the engine queues: one allocation a
//! callback, and none in the queue.

mod debug;
mod given;
mod handle;
mod methods;
mod sharing;
mod timer;
mod work;

pub(crate) use debug::watched;
pub(crate) use handle::{Handle, RunHandle};
pub(crate) use timer::{RunTimer, TimerHandle, unless_float};
pub(crate) use work::Arguments;
