//! `Task`: a coroutine that the loop drives.
//!
//! | file | what |
//! |---|---|
//! | [`task`] | the object's state; making one, cancelling one |
//! | [`step`] | resuming the coroutine, and what comes of it |
//! | [`wakeup`] | the callables that stand for a task where a loop or a future is not ours |
//! | [`methods`] | what Python sees |
//! | [`sleep`] | `sleep` |
//!
//! # States
//!
//! A task is a future with a coroutine. While it is pending exactly one of these holds:
//!
//! - it is *queued*: the loop has it as [`FirstStep`](step::FirstStep), [`Wake`](step::Wake) or behind a
//!   [`TaskStep`](wakeup::TaskStep);
//! - it *waits*: `fut_waiter` is the future, which has the task among its callbacks;
//! - it *runs*: it is the loop's current task, or was when its coroutine started another one eagerly.
//!
//! Cancelling a waiting task cancels what it waits for, which queues it. In the other two states, or when the future
//! refuses, `must_cancel` is raised and the next step throws.
//!
//! # Budget of a step
//!
//! One reference moved out of the ready queue; the current task set by one call into the interpreter; context entered
//! and left; the coroutine resumed. No allocation, no Python object made, no system call.

mod methods;
mod sleep;
mod step;
mod task;
mod wakeup;

pub(crate) use sleep::SleepFunction;
pub(crate) use task::{NewTask, Task};
pub(crate) use wakeup::wakeup_pair;
