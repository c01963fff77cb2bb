//! `Task`: a coroutine that the loop drives.
//!
//! | file | what |
//! |---|---|
//! | [`task`] | the object's state; making one, cancelling one |
//! | [`step`] | resuming the coroutine, and what comes of it |
//! | [`wakeup`] | the callables that stand for a task where a loop or a future is not ours |
//! | [`methods`] | what Python sees |
//! | [`any_future`] | a future of whatever make, for those that take any |
//! | [`sleep`], [`gather`](mod@gather), [`shield`](mod@shield), [`wait`], [`as_completed`](mod@as_completed), ... | asyncio's functions, each in a file of its name |
//! | [`iscoroutine`](mod@iscoroutine) | that, and `isfuture` |
//! | [`current_task`](mod@current_task) | that, and `all_tasks` |
//! | [`eager`] | the eager task factory |
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

mod any_future;
mod as_completed;
pub(crate) mod cancellation;
mod create_task;
mod current_task;
mod eager;
mod ensure_future;
mod gather;
mod iscoroutine;
mod methods;
mod run_coroutine_threadsafe;
mod shield;
mod sleep;
mod step;
mod task;
mod wait;
mod wakeup;
mod wrap_future;

use pyo3::prelude::*;

use crate::asyncio;
use crate::ffi::{async_function, await_slots, finalizer, method, pool};
use crate::futures::Future;

pub(crate) use any_future::{AnyFuture, cancel as cancel_future, current_task as running_task};
pub(crate) use ensure_future::ensure_future;
pub(crate) use gather::gather_all;
pub(crate) use sleep::Resolve;
pub(crate) use task::{NewTask, Task};
pub(crate) use wakeup::wakeup_pair;
pub(crate) use wrap_future::wrap_future;

/// One of the functions that are added below, for who awaits in Rust.
pub(crate) fn function<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    asyncio::module(py, "ferrio._ferrio")?.getattr(name)
}

/// Adds asyncio's functions on tasks.
pub(crate) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    method::install::<methods::Cancel>(py)?;
    pool::install::<gather::GatheringFuture>(py);
    finalizer::install::<gather::GatheringFuture>(py)?;
    await_slots::install::<Future, gather::GatheringFuture>(py);
    module.add("sleep", async_function::make::<sleep::SleepFunction>(py)?)?;
    module.add("wait", async_function::make::<wait::WaitFunction>(py)?)?;
    module.add("FIRST_COMPLETED", wait::FIRST_COMPLETED)?;
    module.add("FIRST_EXCEPTION", wait::FIRST_EXCEPTION)?;
    module.add("ALL_COMPLETED", wait::ALL_COMPLETED)?;
    module.add("eager_task_factory", eager::EagerTaskFactory::of_tasks(py))?;
    method::add_function::<create_task::CreateTask>(module)?;
    module.add_class::<gather::GatheringFuture>()?;
    module.add_class::<as_completed::AsCompleted>()?;
    for function in [
        wrap_pyfunction!(gather::gather, module)?,
        wrap_pyfunction!(shield::shield, module)?,
        wrap_pyfunction!(as_completed::as_completed, module)?,
        wrap_pyfunction!(ensure_future::ensure_future_function, module)?,
        wrap_pyfunction!(eager::create_eager_task_factory, module)?,
        wrap_pyfunction!(current_task::current_task, module)?,
        wrap_pyfunction!(current_task::all_tasks, module)?,
        wrap_pyfunction!(iscoroutine::iscoroutine_function, module)?,
        wrap_pyfunction!(iscoroutine::iscoroutinefunction, module)?,
        wrap_pyfunction!(iscoroutine::isfuture, module)?,
        wrap_pyfunction!(wrap_future::wrap_future_function, module)?,
        wrap_pyfunction!(run_coroutine_threadsafe::run_coroutine_threadsafe, module)?,
    ] {
        module.add_function(function)?;
    }
    Ok(())
}
