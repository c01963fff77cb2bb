//! What Python sees of a group.

use std::ffi::CStr;

use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyList, PySet, PyTuple};
use pyo3::{PyTraverseError, intern};

use super::TaskGroup;
use crate::asyncio;
use crate::classes::readable;
use crate::ffi::call::{method0, method1};
use crate::ffi::cell::{GilCell, GilCopy};
use crate::ffi::method::{CallArguments, FastMethod};
use crate::ffi::newborn;

#[pymethods]
impl TaskGroup {
    #[new]
    #[pyo3(signature = (*args, **_kwargs), text_signature = "()")]
    fn __new__(args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        newborn::has_dict(args.py());
        Self {
            entered: GilCopy::new(false),
            exiting: GilCopy::new(false),
            aborting: GilCopy::new(false),
            parent_cancel_requested: GilCopy::new(false),
            cancel_on_enter: GilCopy::new(false),
            inner: GilCell::default(),
        }
    }

    fn __init__(&self) {}

    /// Cancels the tasks of the group and its body, which ends the `async with` without CancelledError (asyncio 3.15).
    ///
    /// Before the group is entered, it is remembered until then; a second time, and after the end, it does nothing.
    pub(super) fn cancel(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let group = slf.get();
        if !group.entered.get(py) {
            group.cancel_on_enter.set(py, true);
            return Ok(());
        }
        if group.aborting.get(py) || group.exiting.get(py) && !group.has_tasks(py) {
            return Ok(());
        }
        Self::abort(slf)?;
        Self::cancel_parent(slf)
    }

    /// Cancels the tasks of the group and not its body, under the name by which programs know it from before
    /// `cancel()`.
    fn _abort(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::abort(slf)
    }

    /// asyncio's class for a plain group, so that `isinstance` says yes; a subclass answers for itself.
    #[getter]
    fn __class__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        if slf.is_exact_instance_of::<Self>() {
            return asyncio::task_group_class(slf.py()).cloned();
        }
        Ok(slf.get_type().into_any())
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let mut text = "<TaskGroup".to_owned();
        let tasks = self.tasks(py).map_or(0, |tasks| tasks.len());
        let errors = self.inner.with(py, |inner| inner.errors.len());
        if tasks != 0 {
            text += &format!(" tasks={tasks}");
        }
        if errors != 0 {
            text += &format!(" errors={errors}");
        }
        if self.aborting.get(py) {
            text += " cancelling";
        } else if self.entered.get(py) {
            text += " entered";
        }
        text + ">"
    }

    #[getter]
    fn _tasks<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PySet>> {
        match self.tasks(py) {
            Some(tasks) => PySet::new(py, tasks.keys()),
            None => PySet::empty(py),
        }
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.loop_ref(py).map(|loop_ref| loop_ref.bind(py).clone().unbind())
    }

    #[getter]
    fn _parent_task<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.parent(py)
    }

    #[getter]
    fn _aborting(&self, py: Python<'_>) -> bool {
        self.aborting.get(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.inner.traverse(visit, |inner, visit| {
            if let Some(loop_ref) = &inner.loop_ref {
                loop_ref.traverse(visit)?;
            }
            visit.call(&inner.parent)?;
            visit.call(&inner.tasks)?;
            inner.errors.iter().try_for_each(|error| visit.call(error))?;
            visit.call(&inner.base_error)?;
            visit.call(&inner.completed)
        })
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        drop(slf.get().inner.take(slf.py()));
    }
}

/// What classes that are derived from asyncio's group read. They may also keep something of their own by such a name.
pub(super) fn add_attributes(py: Python<'_>) -> PyResult<()> {
    fn flag<'py>(group: &Bound<'py, PyAny>, flag: fn(&TaskGroup) -> &GilCopy<bool>) -> PyResult<Bound<'py, PyAny>> {
        let (py, group) = (group.py(), group.cast::<TaskGroup>()?);
        Ok(PyBool::new(py, flag(group.get()).get(py)).to_owned().into_any())
    }
    readable::<TaskGroup>(
        py,
        &[
            ("_entered", |group| flag(group, |group| &group.entered)),
            ("_exiting", |group| flag(group, |group| &group.exiting)),
            ("_parent_cancel_requested", |group| flag(group, |group| &group.parent_cancel_requested)),
            ("_errors", |group| {
                let (py, group) = (group.py(), group.cast::<TaskGroup>()?.get());
                let errors: Vec<_> =
                    group.inner.with(py, |inner| inner.errors.iter().map(|error| error.clone_ref(py)).collect());
                Ok(PyList::new(py, errors)?.into_any())
            }),
        ],
    )
}

/// `TaskGroup.create_task`.
pub(super) struct CreateTask;

impl FastMethod for CreateTask {
    type Class = TaskGroup;

    const NAME: &'static CStr = c"create_task";

    const DOC: &'static CStr = c"create_task($self, coro, **kwargs)\n--\n\n\
        A task of the group that runs `coro`; the loop's create_task gets the keywords.\n\n\
        Raises RuntimeError, and closes the coroutine, if the group has not been entered, shuts down or is finished.";

    fn call<'py>(this: &Bound<'py, TaskGroup>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        let (coroutine, keywords) = arguments.one_and_keywords("TaskGroup.create_task", "coro", 1)?;
        if let Some(refusal) = TaskGroup::refusal(this)? {
            method0(&coroutine, intern!(py, "close"))?;
            return Err(refusal);
        }
        let Some(loop_ref) = this.get().loop_ref(py) else {
            return Err(PyRuntimeError::new_err("no running event loop"));
        };
        let (event_loop, name) = (loop_ref.bind(py), intern!(py, "create_task"));
        let task = match keywords {
            Some(keywords) => event_loop.call_method(name, (coroutine,), Some(&keywords))?,
            None => method1(event_loop, name, &coroutine)?,
        };
        TaskGroup::adopt(this, &task)?;
        Ok(task)
    }
}
