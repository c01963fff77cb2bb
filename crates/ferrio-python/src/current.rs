//! Which task runs now, as the rest of Python sees it.
//!
//! `asyncio.current_task()` and everything that is built on it (timeouts, task groups, sniffio, anyio) reads a word
//! that belongs to the interpreter: of the thread's state from 3.14 on, in a dictionary before. Setting it costs a
//! call, so it is set for a step and not taken back until something looks: another task's step overwrites it, one of
//! the same task finds it as it should be, and whatever is not a step clears it first ([`CurrentTask::clear`]). Who
//! only ever awaits sees no difference; who looks from a callback sees `None`, as it should. Everybody else who sets
//! the word puts it back.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::asyncio;
use crate::ffi::call::call2;
use crate::ffi::cell::GilCopy;

/// The word of one loop.
#[derive(Debug, Default)]
pub(crate) struct CurrentTask {
    /// The address of the task that is set, which the interpreter keeps; 0 if none is.
    set: GilCopy<usize>,
}

impl CurrentTask {
    /// Makes `task` the one that `loop_object` runs, if it is not. The loop must be the running one.
    #[inline]
    pub(crate) fn set(&self, loop_object: &Bound<'_, PyAny>, task: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.set.get(task.py()) == task.as_ptr().addr() {
            return Ok(());
        }
        self.swap(loop_object, task).map(drop)
    }

    /// Makes `task` the one that `loop_object` runs, and returns the one before. The loop must be the running one.
    #[inline]
    pub(crate) fn swap<'py>(
        &self,
        loop_object: &Bound<'py, PyAny>,
        task: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let previous = swap(loop_object, task)?;
        self.set.set(task.py(), if task.is_none() { 0 } else { task.as_ptr().addr() });
        Ok(previous)
    }

    /// Makes it no task's turn.
    #[inline]
    pub(crate) fn clear(&self, loop_object: &Bound<'_, PyAny>) {
        let py = loop_object.py();
        if self.set.get(py) != 0 {
            self.clear_now(loop_object);
        }
    }

    #[cold]
    fn clear_now(&self, loop_object: &Bound<'_, PyAny>) {
        let py = loop_object.py();
        self.set.set(py, 0);
        let none = py.None();
        // It fails only if somebody took the loop out of its place as the running one, and the task went with it.
        _ = swap(loop_object, none.bind(py));
    }
}

/// Makes `task` the one that `loop_object`, of whatever make, runs; returns the one before.
#[inline]
pub(crate) fn swap<'py>(loop_object: &Bound<'py, PyAny>, task: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    call2(swap_function(task.py())?, loop_object, task)
}

/// `_swap_current_task(loop, task)`: the interpreter's own from 3.12 on, on 3.11 the same on its dictionary.
fn swap_function(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static SWAP: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let make = || {
        let tasks = asyncio::module(py, "asyncio.tasks")?;
        match tasks.getattr("_swap_current_task") {
            Ok(swap) => Ok(swap.unbind()),
            Err(_) => Ok(Bound::new(py, DictSwap(tasks.getattr("_current_tasks")?.unbind()))?.into_any().unbind()),
        }
    };
    SWAP.get_or_try_init(py, make).map(|swap| swap.bind(py))
}

/// Python 3.11 has the dictionary of current tasks, but not the function that swaps one.
#[pyclass(frozen)]
struct DictSwap(Py<PyAny>);

#[pymethods]
impl DictSwap {
    fn __call__<'py>(&self, key: &Bound<'py, PyAny>, task: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = key.py();
        let tasks = self.0.bind(py).cast::<pyo3::types::PyDict>()?;
        let previous = tasks.get_item(key)?.unwrap_or_else(|| py.None().into_bound(py));
        if !task.is_none() {
            tasks.set_item(key, task)?;
        } else if !previous.is_none() {
            tasks.del_item(key)?;
        }
        Ok(previous)
    }
}
