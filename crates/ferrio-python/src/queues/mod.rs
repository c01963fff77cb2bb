//! Queues, by which tasks hand things to each other.
//!
//! | file | what |
//! |---|---|
//! | [`queue`] | `Queue`: the state, and what is done at once |
//! | [`coroutines`] | `put`, `get`, `join`: what can wait |
//! | [`items`] | what is in a queue, and in which order it leaves |
//! | [`kinds`] | `LifoQueue`, `PriorityQueue` |
//! | [`methods`] | what Python sees |
//! | [`errors`] | `QueueEmpty`, `QueueFull`, `QueueShutDown` |
//!
//! # Subclasses
//!
//! A queue of one of the three classes is *plain*: nothing that it does goes through Python's methods. One of a class
//! that Python derives from them calls `_init`, `_get`, `_put`, `full`, `empty`, `qsize`, `put_nowait` and `get_nowait`
//! where CPython's does, so that overriding them has the same effect.
//!
//! # Budget
//!
//! A `put` or `get` that need not wait takes one pooled coroutine, and the interpreter one `StopIteration` for the
//! item.

mod coroutines;
mod errors;
mod items;
mod kinds;
mod methods;
mod queue;

use pyo3::prelude::*;

use crate::asyncio;
use crate::classes;
use crate::ffi::async_function::install;
use crate::ffi::nested;
use queue::Queue;

/// Adds the classes to the module.
pub(crate) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    classes::add::<Queue>(module)?;
    nested::guard::<Queue>(module.py());
    let class = &py.get_type::<Queue>();
    install::<coroutines::QueuePut>(class)?;
    install::<coroutines::QueueGet>(class)?;
    install::<coroutines::QueueJoin>(class)?;
    classes::add::<kinds::LifoQueue>(module)?;
    classes::add::<kinds::PriorityQueue>(module)?;
    nested::guard::<kinds::LifoQueue>(module.py());
    nested::guard::<kinds::PriorityQueue>(module.py());
    module.add("QueueEmpty", asyncio::queue_empty::class(py)?)?;
    module.add("QueueFull", asyncio::queue_full::class(py)?)?;
    module.add("QueueShutDown", errors::shut_down_class(py)?)
}
