//! `put`, `get`, `join`: what can wait.

use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;

use super::errors;
use super::queue::Queue;
use crate::coroutine::{Coroutine, Frame, Next, Outcome};
use crate::ffi::async_function::AsyncFunction;
use crate::ffi::method::CallArguments;
use crate::futures::{Future, State};
use crate::locks::EventWait;
use crate::locks::waiters::Waiters;

/// Queues up among `waiters`, which are of `queue`.
fn wait<'py>(queue: &Bound<'py, Queue>, waiters: &Waiters, place: &mut Option<Py<Future>>) -> PyResult<Next<'py>> {
    let waiter = queue.get().bound.waiter(queue)?;
    waiters.push(&waiter)?;
    *place = Some(waiter.clone().unbind());
    Ok(Next::Await(waiter.into_any()))
}

/// Leaves `waiters` for good. If it was our turn, which `is_ours` asks, it is the next one's.
fn give_up(
    py: Python<'_>,
    waiters: &Waiters,
    waiter: &Py<Future>,
    is_ours: impl FnOnce() -> PyResult<bool>,
) -> PyResult<()> {
    let waiter = waiter.bind(py);
    Future::cancel(waiter, None)?;
    waiters.remove(waiter)?;
    if is_ours()? && waiter.get().state(py) != State::Cancelled {
        Queue::wake_next(py, waiters)?;
    }
    Ok(())
}

struct Put {
    queue: Py<Queue>,
    item: Option<Py<PyAny>>,
    putter: Option<Py<Future>>,
}

impl Frame for Put {
    #[inline]
    fn step<'py>(&mut self, py: Python<'py>, outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        let this = self.queue.bind(py);
        let queue = this.get();
        if let Some(putter) = self.putter.take()
            && let Err(error) = outcome
        {
            give_up(py, &queue.putters, &putter, || Queue::is_full(this).map(|full| !full))?;
            return Err(error);
        }
        if Queue::is_full(this)? {
            if queue.is_shut_down.get(py) {
                return Err(errors::shut_down(py));
            }
            return wait(this, &queue.putters, &mut self.putter);
        }
        let item = self.item.take().unwrap_or_else(|| py.None()).into_bound(py);
        if queue.is_plain(py) {
            Queue::put_now(this, item)?;
            return Ok(Next::Return(py.None().into_bound(py)));
        }
        this.call_method1(intern!(py, "put_nowait"), (item,)).map(Next::Return)
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.queue)?;
        visit.call(&self.item)?;
        visit.call(&self.putter)
    }
}

struct Get {
    queue: Py<Queue>,
    getter: Option<Py<Future>>,
}

impl Frame for Get {
    #[inline]
    fn step<'py>(&mut self, py: Python<'py>, outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        let this = self.queue.bind(py);
        let queue = this.get();
        if let Some(getter) = self.getter.take()
            && let Err(error) = outcome
        {
            give_up(py, &queue.getters, &getter, || Queue::is_empty(this).map(|empty| !empty))?;
            return Err(error);
        }
        if Queue::is_empty(this)? {
            if queue.is_shut_down.get(py) {
                return Err(errors::shut_down(py));
            }
            return wait(this, &queue.getters, &mut self.getter);
        }
        if queue.is_plain(py) {
            return Queue::get_now(this).map(Next::Return);
        }
        this.call_method0(intern!(py, "get_nowait")).map(Next::Return)
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.queue)?;
        visit.call(&self.getter)
    }
}

struct Join {
    queue: Py<Queue>,
    wait: Option<EventWait>,
}

impl Frame for Join {
    fn step<'py>(&mut self, py: Python<'py>, outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        let queue = self.queue.get();
        let wait = match &mut self.wait {
            Some(wait) => wait,
            None if queue.unfinished.get(py) <= 0 => return Ok(Next::Return(py.None().into_bound(py))),
            None => self.wait.insert(EventWait::new(queue.finished(py)?)),
        };
        match wait.step(py, outcome)? {
            Next::Return(_) => Ok(Next::Return(py.None().into_bound(py))),
            waits => Ok(waits),
        }
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.queue)?;
        self.wait.iter().try_for_each(|wait| wait.traverse(visit))
    }
}

/// `Queue.put`.
pub(super) struct QueuePut;

impl AsyncFunction for QueuePut {
    const NAME: &'static str = "Queue.put";

    const PARAMETERS: &'static str = "(self, item)";

    const DOC: &'static str = "Puts an item, when there is room.\n\n\
        Raises QueueShutDown if the queue was, or is meanwhile, shut down.";

    #[inline]
    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let (queue, [_, item]) = arguments.method::<Queue, 2>(Self::NAME, ["self", "item"])?;
        let (queue, item) = (queue.to_owned().unbind(), Some(item.to_owned().unbind()));
        Coroutine::of(py, Self::NAME, Put { queue, item, putter: None })
    }
}

/// `Queue.get`.
pub(super) struct QueueGet;

impl AsyncFunction for QueueGet {
    const NAME: &'static str = "Queue.get";

    const PARAMETERS: &'static str = "(self)";

    const DOC: &'static str = "Gets an item, when there is one.\n\n\
        Raises QueueShutDown if there is none and the queue was, or is meanwhile, shut down.";

    #[inline]
    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let (queue, _) = arguments.method::<Queue, 1>(Self::NAME, ["self"])?;
        Coroutine::of(py, Self::NAME, Get { queue: queue.to_owned().unbind(), getter: None })
    }
}

/// `Queue.join`.
pub(super) struct QueueJoin;

impl AsyncFunction for QueueJoin {
    const NAME: &'static str = "Queue.join";

    const PARAMETERS: &'static str = "(self)";

    const DOC: &'static str = "Waits until `task_done()` was called for every item that was put.";

    #[inline]
    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let (queue, _) = arguments.method::<Queue, 1>(Self::NAME, ["self"])?;
        Coroutine::of(py, Self::NAME, Join { queue: queue.to_owned().unbind(), wait: None })
    }
}
