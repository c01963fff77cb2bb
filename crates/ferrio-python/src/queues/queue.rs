//! `Queue`: the state, and what is done at once.

use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;

use super::errors;
use super::items::{Items, Order};
use super::kinds::{LifoQueue, PriorityQueue};
use crate::ffi::cell::{GilCell, GilCopy};
use crate::ffi::newborn;
use crate::locks::Event;
use crate::locks::bound::LoopBound;
use crate::locks::waiters::{Waiters, wake};

/// A queue between tasks: who puts waits while it is full, who gets while it is empty.
///
/// It is full with `maxsize` items; never, if that is zero or less.
#[pyclass(frozen, subclass, dict, weakref, module = "ferrio")]
pub(crate) struct Queue {
    pub(super) bound: LoopBound,
    /// As it was given.
    pub(super) maxsize: GilCell<Option<Py<PyAny>>>,
    /// The same as a number; none if there is no limit.
    limit: GilCopy<Option<usize>>,
    pub(super) items: Items,
    pub(super) order: GilCopy<Order>,
    /// Whether no class of Python's is between it and its methods.
    plain: GilCopy<bool>,
    pub(super) getters: Waiters,
    pub(super) putters: Waiters,
    /// How many items were put for which `task_done()` has not been called.
    pub(super) unfinished: GilCopy<i64>,
    /// Set while nothing is unfinished. Made when somebody wants to wait for that.
    pub(super) finished: GilCell<Option<Py<Event>>>,
    pub(super) is_shut_down: GilCopy<bool>,
}

impl Queue {
    pub(super) fn uninitialized() -> Self {
        Self {
            bound: LoopBound::default(),
            maxsize: GilCell::new(None),
            limit: GilCopy::new(None),
            items: Items::default(),
            order: GilCopy::new(Order::First),
            plain: GilCopy::new(false),
            getters: Waiters::default(),
            putters: Waiters::default(),
            unfinished: GilCopy::new(0),
            finished: GilCell::new(None),
            is_shut_down: GilCopy::new(false),
        }
    }

    pub(super) fn initialize(this: &Bound<'_, Self>, maxsize: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let py = this.py();
        let queue = this.get();
        let maxsize = match maxsize {
            Some(maxsize) => maxsize,
            None => pyo3::types::PyInt::new(py, 0).into_any(),
        };
        queue.set_maxsize(&maxsize)?;
        Self::classify(this);
        queue.getters.clear(py);
        queue.putters.clear(py);
        queue.unfinished.set(py, 0);
        drop(queue.finished.take(py));
        if queue.is_plain(py) {
            queue.items.initialize(py, queue.order.get(py));
        } else {
            this.call_method1(intern!(py, "_init"), (maxsize,))?;
        }
        queue.is_shut_down.set(py, false);
        Ok(())
    }

    /// Looks at the class: in which order items leave, and whether its methods may be a subclass's.
    pub(super) fn classify(this: &Bound<'_, Self>) {
        let (py, queue) = (this.py(), this.get());
        let (lifo, priority) = (this.is_instance_of::<LifoQueue>(), this.is_instance_of::<PriorityQueue>());
        queue.order.set(
            py,
            if priority {
                Order::Least
            } else if lifo {
                Order::Last
            } else {
                Order::First
            },
        );
        let plain = this.is_exact_instance_of::<Self>()
            || this.is_exact_instance_of::<LifoQueue>()
            || this.is_exact_instance_of::<PriorityQueue>();
        queue.plain.set(py, plain);
    }

    pub(super) fn set_maxsize(&self, maxsize: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = maxsize.py();
        let limit = match maxsize.extract::<i64>() {
            Ok(number) => usize::try_from(number).ok().filter(|limit| *limit > 0),
            Err(error) if error.is_instance_of::<PyOverflowError>(py) => None,
            // A fraction is reached by the next whole number; infinity never.
            Err(_) => maxsize.extract::<f64>().map(|limit| (limit > 0.0).then_some(limit.ceil() as usize))?,
        };
        self.limit.set(py, limit);
        drop(self.maxsize.replace(py, Some(maxsize.clone().unbind())));
        Ok(())
    }

    /// Whether no method of it can be overridden.
    #[inline]
    pub(super) fn is_plain(&self, py: Python<'_>) -> bool {
        self.plain.get(py)
    }

    #[inline]
    pub(super) fn is_empty(this: &Bound<'_, Self>) -> PyResult<bool> {
        let py = this.py();
        if this.get().is_plain(py) {
            return this.get().items.is_empty(py);
        }
        this.call_method0(intern!(py, "empty"))?.is_truthy()
    }

    #[inline]
    pub(super) fn is_full(this: &Bound<'_, Self>) -> PyResult<bool> {
        let py = this.py();
        if this.get().is_plain(py) {
            return Self::has_reached_limit(this);
        }
        this.call_method0(intern!(py, "full"))?.is_truthy()
    }

    #[inline]
    pub(super) fn has_reached_limit(this: &Bound<'_, Self>) -> PyResult<bool> {
        let py = this.py();
        let Some(limit) = this.get().limit.get(py) else { return Ok(false) };
        let length = match this.get().is_plain(py) {
            true => this.get().items.len(py)?,
            false => this.call_method0(intern!(py, "qsize"))?.extract()?,
        };
        Ok(length >= limit)
    }

    /// Puts an item if there is room.
    ///
    /// # Errors
    ///
    /// `QueueShutDown`, `QueueFull`.
    #[inline]
    pub(super) fn put_now(this: &Bound<'_, Self>, item: Bound<'_, PyAny>) -> PyResult<()> {
        let py = this.py();
        let queue = this.get();
        if queue.is_shut_down.get(py) {
            return Err(errors::shut_down(py));
        }
        if Self::is_full(this)? {
            return Err(errors::full(py));
        }
        if queue.is_plain(py) {
            queue.items.put(queue.order.get(py), item)?;
        } else {
            this.call_method1(intern!(py, "_put"), (item,))?;
        }
        queue.unfinished.set(py, queue.unfinished.get(py).saturating_add(1));
        if let Some(finished) = queue.finished.clone_ref(py) {
            finished.get().lower(py);
        }
        Self::wake_next(py, &queue.getters)
    }

    /// Gets an item if there is one.
    ///
    /// # Errors
    ///
    /// `QueueEmpty`; `QueueShutDown` if there will be none.
    #[inline]
    pub(super) fn get_now<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        let queue = this.get();
        if Self::is_empty(this)? {
            return Err(if queue.is_shut_down.get(py) { errors::shut_down(py) } else { errors::empty(py) });
        }
        let item = Self::take(this)?;
        Self::wake_next(py, &queue.putters)?;
        Ok(item)
    }

    fn take<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let (py, queue) = (this.py(), this.get());
        if queue.is_plain(py) {
            return queue.items.get(py, queue.order.get(py));
        }
        this.call_method0(intern!(py, "_get"))
    }

    /// Wakes the first who waits and is not done for already.
    #[inline]
    pub(super) fn wake_next(py: Python<'_>, waiters: &Waiters) -> PyResult<()> {
        while let Some(waiter) = waiters.pop(py)? {
            if wake(&waiter, py.None().into_bound(py))? {
                break;
            }
        }
        Ok(())
    }

    /// # Errors
    ///
    /// `ValueError` if nothing is unfinished.
    pub(super) fn finish_one(&self, py: Python<'_>) -> PyResult<()> {
        let unfinished = self.unfinished.get(py);
        if unfinished <= 0 {
            return Err(PyValueError::new_err("task_done() called too many times"));
        }
        self.unfinished.set(py, unfinished - 1);
        self.finish_if_done(py)
    }

    fn finish_if_done(&self, py: Python<'_>) -> PyResult<()> {
        match self.finished.clone_ref(py) {
            Some(finished) if self.unfinished.get(py) == 0 => finished.get().raise(py),
            _ => Ok(()),
        }
    }

    /// What `join()` waits for.
    pub(super) fn finished(&self, py: Python<'_>) -> PyResult<Py<Event>> {
        if let Some(finished) = self.finished.clone_ref(py) {
            return Ok(finished);
        }
        let event = Event::unset();
        if self.unfinished.get(py) == 0 {
            event.raise(py)?;
        }
        let event = newborn::make(py, event)?;
        drop(self.finished.replace(py, Some(event.clone_ref(py))));
        Ok(event)
    }

    pub(super) fn shut_down(this: &Bound<'_, Self>, immediate: bool) -> PyResult<()> {
        let (py, queue) = (this.py(), this.get());
        queue.is_shut_down.set(py, true);
        if immediate {
            while !Self::is_empty(this)? {
                drop(Self::take(this)?);
                let unfinished = queue.unfinished.get(py);
                queue.unfinished.set(py, unfinished - i64::from(unfinished > 0));
            }
            queue.finish_if_done(py)?;
        }
        for waiters in [&queue.getters, &queue.putters] {
            while let Some(waiter) = waiters.pop(py)? {
                wake(&waiter, py.None().into_bound(py))?;
            }
        }
        Ok(())
    }
}
