//! What is in a queue, and in which order it leaves.

use std::collections::VecDeque;

use pyo3::exceptions::{PyAttributeError, PyIndexError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::PyList;
use pyo3::{PyTraverseError, intern};

use crate::asyncio;
use crate::ffi::call::{call1, call2, method0, method1};
use crate::ffi::cell::GilCell;

/// The order in which items leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// The first that came.
    First,
    /// The last that came.
    Last,
    /// The least.
    Least,
}

/// The items of a queue.
///
/// They are kept in Rust until Python asks for the `_queue` that CPython's queues have: from then on they are kept in
/// that object, which its owner may change as it likes.
#[derive(Default)]
pub(super) struct Items(GilCell<Store>);

#[derive(Default)]
enum Store {
    /// `_init` has not been called.
    #[default]
    Missing,
    Native(VecDeque<Py<PyAny>>),
    Python(Py<PyAny>),
}

/// Where an operation finds the items.
enum Found<'py, T> {
    Done(T),
    Python(Bound<'py, PyAny>),
}

impl Items {
    /// Makes a new container for items that leave in `order`.
    pub(super) fn initialize(&self, py: Python<'_>, order: Order) {
        let store = match order {
            Order::First | Order::Last => Store::Native(VecDeque::new()),
            // Items are compared by Python code, which may come back to the queue: a list under heapq can stand that.
            Order::Least => Store::Python(PyList::empty(py).into_any().unbind()),
        };
        drop(self.0.replace(py, store));
    }

    /// Does `native` with the items in Rust, or finds the object that they are in.
    #[inline]
    fn find<'py, T>(
        &self,
        py: Python<'py>,
        native: impl FnOnce(&mut VecDeque<Py<PyAny>>) -> T,
    ) -> PyResult<Found<'py, T>> {
        self.0.with(py, |store| match store {
            Store::Native(items) => Ok(Found::Done(native(items))),
            Store::Python(object) => Ok(Found::Python(object.clone_ref(py).into_bound(py))),
            Store::Missing => Err(PyAttributeError::new_err("'Queue' object has no attribute '_queue'")),
        })
    }

    /// How many there are. Runs Python code if they are in an object that Python made.
    #[inline]
    pub(super) fn len(&self, py: Python<'_>) -> PyResult<usize> {
        match self.find(py, |items| items.len())? {
            Found::Done(length) => Ok(length),
            Found::Python(object) => object.len(),
        }
    }

    /// Whether there are none. Runs Python code as [`len`](Self::len) does.
    #[inline]
    pub(super) fn is_empty(&self, py: Python<'_>) -> PyResult<bool> {
        match self.find(py, |items| items.is_empty())? {
            Found::Done(empty) => Ok(empty),
            Found::Python(object) => Ok(!object.is_truthy()?),
        }
    }

    /// Adds an item. Runs Python code as [`len`](Self::len) does.
    #[inline]
    pub(super) fn put(&self, order: Order, item: Bound<'_, PyAny>) -> PyResult<()> {
        let py = item.py();
        let mut item = Some(item);
        let found = self.find(py, |items| items.extend(item.take().map(Bound::unbind)))?;
        if let (Found::Python(object), Some(item)) = (found, item) {
            match order {
                Order::First | Order::Last => method1(&object, intern!(py, "append"), &item)?,
                Order::Least => call2(asyncio::heappush(py)?, &object, &item)?,
            };
        }
        Ok(())
    }

    /// Takes an item out. Runs Python code as [`len`](Self::len) does.
    ///
    /// # Errors
    ///
    /// `IndexError` if there is none.
    #[inline]
    pub(super) fn get<'py>(&self, py: Python<'py>, order: Order) -> PyResult<Bound<'py, PyAny>> {
        let native = |items: &mut VecDeque<Py<PyAny>>| match order {
            Order::First => items.pop_front(),
            Order::Last | Order::Least => items.pop_back(),
        };
        match self.find(py, native)? {
            Found::Done(Some(item)) => Ok(item.into_bound(py)),
            Found::Done(None) => Err(PyIndexError::new_err("pop from an empty queue")),
            Found::Python(object) => match order {
                Order::First => method0(&object, intern!(py, "popleft")),
                Order::Last => method0(&object, intern!(py, "pop")),
                Order::Least => call1(asyncio::heappop(py)?, &object),
            },
        }
    }

    /// The `_queue` attribute: a `deque`, or a `list` if not the first leaves first. The items are in it from now on.
    pub(super) fn to_object<'py>(&self, py: Python<'py>, order: Order) -> PyResult<Bound<'py, PyAny>> {
        let items = match self.find(py, std::mem::take)? {
            Found::Python(object) => return Ok(object),
            Found::Done(items) => items,
        };
        let list = PyList::new(py, items)?.into_any();
        let object = if order == Order::First { asyncio::deque(py)?.call1((list,))? } else { list };
        self.set(object.clone());
        Ok(object)
    }

    /// Sets the `_queue` attribute.
    pub(super) fn set(&self, object: Bound<'_, PyAny>) {
        let py = object.py();
        drop(self.0.replace(py, Store::Python(object.unbind())));
    }

    /// The items in a list.
    pub(super) fn to_list<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let copy = |items: &mut VecDeque<Py<PyAny>>| items.iter().map(|item| item.clone_ref(py)).collect::<Vec<_>>();
        match self.find(py, copy)? {
            Found::Done(items) => PyList::new(py, items),
            Found::Python(object) => {
                object.try_iter()?.collect::<PyResult<Vec<_>>>().and_then(|all| PyList::new(py, all))
            }
        }
    }

    pub(super) fn clear(&self, py: Python<'_>) {
        drop(self.0.take(py));
    }

    pub(super) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.traverse(visit, |store, visit| match store {
            Store::Missing => Ok(()),
            Store::Native(items) => items.iter().try_for_each(|item| visit.call(item)),
            Store::Python(object) => visit.call(object),
        })
    }
}
