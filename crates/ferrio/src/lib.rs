//! A single-threaded event loop with asyncio's model, for Rust programs and for the Python package of the same name.
//!
//! ```
//! use std::time::Duration;
//!
//! async fn job(id: u32, seconds: f64) -> u32 {
//!     ferrio::sleep(Duration::from_secs_f64(seconds)).await;
//!     id
//! }
//!
//! ferrio::run(async {
//!     let first = ferrio::spawn(job(1, 0.001));
//!     let second = ferrio::spawn(job(2, 0.002));
//!     assert_eq!((first.await, second.await), (Ok(1), Ok(2)));
//! })?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Tasks take turns on one thread, so neither they nor what they share need locks or `Send`. What runs when is fixed in
//! one place, [`engine::EventLoop::run_once`].
//!
//! # What to count on
//!
//! - *Dropping* a future of this crate ends what it waits for, and loses nothing but what its section on cancel safety
//!   names. Dropping a [`JoinHandle`] detaches its task. What is spawned into a [`task_group()`] ends with that.
//! - *Closing* a loop, as [`run()`] does in the end, drops all its tasks where they wait. Who awaits one is told
//!   [`Aborted`].
//! - *Panics* of a task end that task, and go on where its handle is awaited. The loop and the other tasks live on.
//! - *Threads:* a future of this crate belongs to the thread whose loop it was first polled on. What may go to other
//!   threads is `Send`: wakers, [`engine::LoopHandle`], and a [`JoinHandle`] if its output may. What blocks has a
//!   thread in [`unblock()`].
//! - *Nesting:* [`run()`] panics inside of a loop. [`run_on`] drives a loop from anywhere on its thread, also from one
//!   of its own tasks or from those of another.
//! - *Fairness:* tasks run in the order in which they were woken, one step each. A step ends where its future waits;
//!   an [`Async`] that never has to wait makes it end now and then. What computes for long calls [`yield_now()`].
//! - *Forks:* the child of a fork makes a loop of its own. One that it has inherited refuses to wait.
//! - *Platform:* Linux, and Rust 1.90 or newer. There are no features to choose.
//!
//! # The map
//!
//! | floor | what |
//! |---|---|
//! | [`sys`] | asks the operating system for readiness and wake-ups |
//! | [`engine`] | decides *when* something runs: ready queue, timers, reactor, blocking pool, and what other threads may touch |
//! | [`stream`], [`net`] | keep account of the bytes of a connection, and move them; they do not know the engine |
//! | this page | what programs use: [`run()`], [`spawn`], [`task_group()`], [`timeout()`], [`Async`], ... one public noun a file |
//!
//! Nothing in here knows Python; the binding lives in its own crate and meets the engine at two seams,
//! [`engine::Runnable`] and [`engine::Park`]. A loop that an embedder drives runs native tasks as well: [`spawn_on`].

#![forbid(unsafe_op_in_unsafe_fn)]
#![warn(missing_debug_implementations)]

#[cfg(not(target_os = "linux"))]
compile_error!("ferrio runs on Linux only");

pub mod engine;
pub mod net;
pub mod stream;
pub mod sys;

mod exit_status;
mod gather;
mod io;
mod run;
mod task;
mod task_group;
mod time;
mod timeout;
mod unblock;
mod yield_now;

pub use exit_status::exit_status;
pub use gather::gather;
pub use io::Async;
pub use run::{run, run_on};
pub use task::{Aborted, JoinHandle, spawn, spawn_on};
pub use task_group::{TaskGroup, task_group};
pub use time::{Sleep, sleep};
pub use timeout::{Elapsed, timeout};
pub use unblock::unblock;
pub use yield_now::{YieldNow, yield_now};

/// Has the documents' programs compiled and run.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../../../README.md")]
    struct Readme;

    #[doc = include_str!("../../../docs/rust.md")]
    struct Rust;
}
