//! A single-threaded event loop with asyncio's model, for Rust programs and for the Python package of the same name.
//!
//! The crate has two floors. [`sys`] asks the operating system for readiness and wake-ups; [`engine`] decides *when*
//! something runs: ready queue, timers, reactor, and what other threads may touch. Beside the engine, and without
//! knowing it, [`stream`] keeps account of the bytes of a connection and [`net`] moves them. Nothing in here knows
//! Python; the binding lives in its own crate and meets the engine at two seams, [`engine::Runnable`] and
//! [`engine::Park`].

#![forbid(unsafe_op_in_unsafe_fn)]

pub mod engine;
pub mod net;
pub mod stream;
pub mod sys;
