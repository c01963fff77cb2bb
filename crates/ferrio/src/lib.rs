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
//! # The map
//!
//! | floor | what |
//! |---|---|
//! | [`sys`] | asks the operating system for readiness and wake-ups |
//! | [`engine`] | decides *when* something runs: ready queue, timers, reactor, blocking pool, and what other threads may touch |
//! | [`stream`], [`net`] | keep account of the bytes of a connection, and move them; they do not know the engine |
//! | this page | what programs use: [`run()`], [`spawn`], [`task_group()`], [`timeout()`], ... one public noun a file |
//!
//! Nothing in here knows Python; the binding lives in its own crate and meets the engine at two seams,
//! [`engine::Runnable`] and [`engine::Park`]. A loop that an embedder drives runs native tasks as well: [`spawn_on`].

#![forbid(unsafe_op_in_unsafe_fn)]

pub mod engine;
pub mod net;
pub mod stream;
pub mod sys;

mod gather;
mod run;
mod task;
mod task_group;
mod time;
mod timeout;
mod unblock;
mod yield_now;

pub use gather::gather;
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
