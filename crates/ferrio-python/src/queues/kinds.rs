//! `LifoQueue` and `PriorityQueue`: queues whose items leave in another order.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::items::Order;
use super::queue::Queue;
use crate::classes::stands_for;
use crate::ffi::newborn;

/// A queue that gives the newest item first.
#[pyclass(frozen, extends = Queue, subclass, module = "ferrio")]
pub(crate) struct LifoQueue;

#[pymethods]
impl LifoQueue {
    #[new]
    #[pyo3(signature = (*args, **_kwargs), text_signature = "(maxsize=0)")]
    fn __new__(args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> PyClassInitializer<Self> {
        newborn::has_dict(args.py());
        PyClassInitializer::from(Queue::uninitialized()).add_subclass(Self)
    }

    fn _init(slf: &Bound<'_, Self>, _maxsize: &Bound<'_, PyAny>) {
        slf.as_super().get().items.initialize(slf.py(), Order::Last);
    }

    fn _get<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.as_super().get().items.get(slf.py(), Order::Last)
    }

    fn _put(slf: &Bound<'_, Self>, item: Bound<'_, PyAny>) -> PyResult<()> {
        slf.as_super().get().items.put(Order::Last, item)
    }
}

stands_for!(LifoQueue, lifo_queue_class);

/// A queue that gives the least item first, as `<` has it.
#[pyclass(frozen, extends = Queue, subclass, module = "ferrio")]
pub(crate) struct PriorityQueue;

#[pymethods]
impl PriorityQueue {
    #[new]
    #[pyo3(signature = (*args, **_kwargs), text_signature = "(maxsize=0)")]
    fn __new__(args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> PyClassInitializer<Self> {
        newborn::has_dict(args.py());
        PyClassInitializer::from(Queue::uninitialized()).add_subclass(Self)
    }

    fn _init(slf: &Bound<'_, Self>, _maxsize: &Bound<'_, PyAny>) {
        slf.as_super().get().items.initialize(slf.py(), Order::Least);
    }

    fn _get<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.as_super().get().items.get(slf.py(), Order::Least)
    }

    fn _put(slf: &Bound<'_, Self>, item: Bound<'_, PyAny>) -> PyResult<()> {
        slf.as_super().get().items.put(Order::Least, item)
    }
}

stands_for!(PriorityQueue, priority_queue_class);
