//! What Python sees of a queue.

use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};
use pyo3::{PyTraverseError, intern};

use super::items::Order;
use super::queue::Queue;
use crate::asyncio;
use crate::classes::{self, stands_for};
use crate::convert::Argument;
use crate::ffi::newborn;
use crate::locks::Event;
use crate::locks::bound::loop_attribute;

#[pymethods]
impl Queue {
    #[new]
    #[pyo3(signature = (*args, **_kwargs), text_signature = "(maxsize=0)")]
    fn __new__(args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        newborn::has_dict(args.py());
        Self::uninitialized()
    }

    /// A queue of at most `maxsize` items; of any number if that is not positive.
    #[pyo3(signature = (maxsize=Argument::default()))]
    fn __init__(slf: &Bound<'_, Self>, maxsize: Argument<'_>) -> PyResult<()> {
        Self::initialize(slf, maxsize.0)
    }

    fn _init(&self, maxsize: &Bound<'_, PyAny>) {
        self.items.initialize(maxsize.py(), Order::First);
    }

    fn _get<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.items.get(py, Order::First)
    }

    fn _put(&self, item: Bound<'_, PyAny>) -> PyResult<()> {
        self.items.put(Order::First, item)
    }

    /// How many items there are.
    fn qsize(&self, py: Python<'_>) -> PyResult<usize> {
        self.items.len(py)
    }

    /// How many items there may be; any number, if it is zero or less.
    #[getter]
    fn maxsize(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.maxsize.clone_ref(py)
    }

    /// Whether there is no item.
    fn empty(&self, py: Python<'_>) -> PyResult<bool> {
        self.items.is_empty(py)
    }

    /// Whether there are `maxsize` items.
    fn full(slf: &Bound<'_, Self>) -> PyResult<bool> {
        Self::has_reached_limit(slf)
    }

    /// Puts an item.
    ///
    /// Raises QueueFull if there is no room, QueueShutDown if the queue was shut down.
    fn put_nowait(slf: &Bound<'_, Self>, item: Bound<'_, PyAny>) -> PyResult<()> {
        Self::put_now(slf, item)
    }

    /// Gets an item.
    ///
    /// Raises QueueEmpty if there is none, QueueShutDown if there is none and the queue was shut down.
    fn get_nowait<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::get_now(slf)
    }

    /// Says that the work on an item that was got is done.
    ///
    /// Raises ValueError if that was said for every item that was put.
    fn task_done(&self, py: Python<'_>) -> PyResult<()> {
        self.finish_one(py)
    }

    /// Ends the queue (asyncio 3.13): put() raises QueueShutDown from now on, and get() when no item is left.
    ///
    /// With `immediate` the items are thrown away, and count as done.
    #[pyo3(signature = (immediate=None), text_signature = "($self, immediate=False)")]
    fn shutdown(slf: &Bound<'_, Self>, immediate: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        Self::shut_down(slf, immediate.map_or(Ok(false), |immediate| immediate.is_truthy())?)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let format = slf.call_method0(intern!(slf.py(), "_format"))?;
        Ok(format!("<{} at {:#x} {format}>", slf.get_type().name()?, slf.as_ptr().addr()))
    }

    fn __str__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let format = slf.call_method0(intern!(slf.py(), "_format"))?;
        Ok(format!("<{} {format}>", slf.get_type().name()?))
    }

    fn _format(&self, py: Python<'_>) -> PyResult<String> {
        let mut text = "maxsize=".to_owned();
        if let Some(maxsize) = self.maxsize.clone_ref(py) {
            text += &maxsize.bind(py).repr()?.to_string();
        }
        if !self.items.is_empty(py)? {
            text += &format!(" _queue={}", self.items.to_list(py)?.repr()?);
        }
        for (name, waiters) in [("_getters", &self.getters), ("_putters", &self.putters)] {
            if waiters.len(py)? > 0 {
                text += &format!(" {name}[{}]", waiters.len(py)?);
            }
        }
        if self.unfinished.get(py) != 0 {
            text += &format!(" tasks={}", self.unfinished.get(py));
        }
        if self.is_shut_down.get(py) {
            text += " shutdown";
        }
        Ok(text)
    }

    #[classmethod]
    fn __class_getitem__<'py>(cls: &Bound<'py, PyType>, item: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        asyncio::generic_alias(cls.py())?.call1((cls, item))
    }

    #[getter(_queue)]
    fn get_queue<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.items.to_object(py, self.order.get(py))
    }

    #[setter(_queue)]
    fn set_queue(&self, value: Bound<'_, PyAny>) {
        self.items.set(value);
    }

    #[getter(_maxsize)]
    fn get_maxsize(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.maxsize(py)
    }

    #[setter(_maxsize)]
    fn put_maxsize(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.set_maxsize(value)
    }

    #[getter(_getters)]
    fn get_getters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.getters.to_deque(py)
    }

    #[setter(_getters)]
    fn set_getters(&self, getters: &Bound<'_, PyAny>) -> PyResult<()> {
        self.getters.set(getters)
    }

    #[getter(_putters)]
    fn get_putters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.putters.to_deque(py)
    }

    #[setter(_putters)]
    fn set_putters(&self, putters: &Bound<'_, PyAny>) -> PyResult<()> {
        self.putters.set(putters)
    }

    #[getter(_unfinished_tasks)]
    fn get_unfinished(&self, py: Python<'_>) -> i64 {
        self.unfinished.get(py)
    }

    #[setter(_unfinished_tasks)]
    fn set_unfinished(&self, py: Python<'_>, value: i64) {
        self.unfinished.set(py, value);
    }

    /// Wakes the first of `waiters` who waits, for a subclass that does so itself.
    #[staticmethod]
    fn _wakeup_next(waiters: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = waiters.py();
        while waiters.is_truthy()? {
            let waiter = waiters.call_method0(intern!(py, "popleft"))?;
            if !waiter.call_method0(intern!(py, "done"))?.is_truthy()? {
                return waiter.call_method1(intern!(py, "set_result"), (py.None(),)).map(drop);
            }
        }
        Ok(())
    }

    #[getter(_finished)]
    fn get_finished(&self, py: Python<'_>) -> PyResult<Py<Event>> {
        self.finished(py)
    }

    #[setter(_finished)]
    fn set_finished(&self, py: Python<'_>, event: Py<Event>) {
        drop(self.finished.replace(py, Some(event)));
    }

    #[getter(_is_shutdown)]
    fn get_is_shutdown(&self, py: Python<'_>) -> bool {
        self.is_shut_down.get(py)
    }

    #[setter(_is_shutdown)]
    fn set_is_shutdown(&self, py: Python<'_>, value: bool) {
        self.is_shut_down.set(py, value);
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        classes::reduce(slf.as_any())
    }

    fn __getstate__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        classes::state(slf.as_any(), &STATE)
    }

    fn __setstate__(slf: &Bound<'_, Self>, state: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::classify(slf);
        classes::set_state(slf.as_any(), state, &STATE)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.bound.traverse(visit)?;
        self.maxsize.traverse(visit, |maxsize, visit| visit.call(maxsize))?;
        self.items.traverse(visit)?;
        self.getters.traverse(visit)?;
        self.putters.traverse(visit)?;
        self.finished.traverse(visit, |finished, visit| visit.call(finished))
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        let (py, queue) = (slf.py(), slf.get());
        queue.items.clear(py);
        queue.getters.clear(py);
        queue.putters.clear(py);
        queue.bound.set(py, None);
        drop((queue.finished.take(py), queue.maxsize.take(py)));
    }
}

/// What a copy takes along.
const STATE: [&str; 8] =
    ["_maxsize", "_unfinished_tasks", "_finished", "_is_shutdown", "_getters", "_putters", "_loop", "_queue"];

loop_attribute!(Queue, bound);
stands_for!(Queue, queue_class);
