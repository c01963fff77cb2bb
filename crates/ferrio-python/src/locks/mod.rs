//! Locks, by which tasks wait for each other.
//!
//! | file | what |
//! |---|---|
//! | [`lock`], [`event`], [`condition`], [`semaphore`], [`barrier`] | the classes, each with the frames of its coroutines |
//! | [`line`](mod@line) | what the classes have in common: the line of those who wait |
//! | [`waiters`] | the queue of those who wait |
//! | [`bound`] | the loop that an object belongs to |
//! | [`scope`] | `async with` for subclasses |
//! | [`repr`] | how they show themselves |
//!
//! Who waits and who goes first is CPython's to the letter; so is what becomes of a permit whose receiver is cancelled
//! before it runs: it goes to the next in line. A subclass that Python defines may override public methods, and those
//! of our own methods that CPython builds on others go through the override.
//!
//! # Budget
//!
//! What need not wait takes one pooled coroutine: no future, no look at the loop, no Python code. Waiting takes one
//! pooled future, which holds the waiting task itself; that the object's loop is the running one is seen by its thread,
//! and the interpreter is asked only if it is not.

mod barrier;
pub(crate) mod bound;
mod condition;
mod event;
mod line;
mod lock;
mod repr;
mod scope;
mod semaphore;
pub(crate) mod waiters;

use pyo3::prelude::*;

pub(crate) use event::{Event, Wait as EventWait};

use crate::asyncio;
use crate::classes;
use crate::ffi::async_function::install;

/// Adds the classes to the module.
pub(crate) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    classes::add::<lock::Lock>(module)?;
    let class = &py.get_type::<lock::Lock>();
    install::<lock::LockAcquire>(class)?;
    install::<lock::LockEnter>(class)?;
    install::<lock::LockExit>(class)?;
    classes::add::<Event>(module)?;
    install::<event::EventWait>(&py.get_type::<Event>())?;
    classes::add::<condition::Condition>(module)?;
    let class = &py.get_type::<condition::Condition>();
    install::<condition::ConditionWait>(class)?;
    install::<condition::ConditionWaitFor>(class)?;
    install::<condition::ConditionEnter>(class)?;
    install::<condition::ConditionExit>(class)?;
    classes::add::<semaphore::Semaphore>(module)?;
    let class = &py.get_type::<semaphore::Semaphore>();
    install::<semaphore::SemaphoreAcquire>(class)?;
    install::<semaphore::SemaphoreEnter>(class)?;
    install::<semaphore::SemaphoreExit>(class)?;
    classes::add::<semaphore::BoundedSemaphore>(module)?;
    classes::add::<barrier::Barrier>(module)?;
    let class = &py.get_type::<barrier::Barrier>();
    install::<barrier::BarrierWait>(class)?;
    install::<barrier::BarrierReset>(class)?;
    install::<barrier::BarrierAbort>(class)?;
    install::<barrier::BarrierEnter>(class)?;
    install::<barrier::BarrierExit>(class)?;
    module.add("BrokenBarrierError", asyncio::broken_barrier_error::class(py)?)
}
