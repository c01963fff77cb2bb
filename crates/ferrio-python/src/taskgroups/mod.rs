//! `TaskGroup`.
//!
//! | file | topic |
//! |---|---|
//! | this one | the group and its children |
//! | [`methods`] | what Python sees |
//! | [`scope`] | `async with`: entering, and waiting for the children |
//!
//! # Budget of a child
//!
//! Its task, an entry in the group's dictionary, and one in the loop's ready queue when it is done: the group is told
//! natively, without a bound method, a handle or a context.

mod methods;
mod scope;

use ferrio::engine::Flow;
use pyo3::exceptions::{PyKeyboardInterrupt, PyRuntimeError, PySystemExit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use self::methods::CreateTask;
use self::scope::{Enter, Exit};
use crate::ffi::async_function;
use crate::ffi::cell::{GilCell, GilCopy};
use crate::ffi::method;
use crate::ffi::runnable::take_leaving;
use crate::futures::{Future, Notified};
use crate::loop_ref::{LoopRef, report_kept};
use crate::tasks::{AnyFuture, cancel_future, cancellation, running_task};

/// Adds what the module exports.
pub(crate) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let class = py.get_type::<TaskGroup>();
    async_function::install::<Enter>(&class)?;
    async_function::install::<Exit>(&class)?;
    method::install::<CreateTask>(py)?;
    methods::add_attributes(py)?;
    module.add_class::<TaskGroup>()
}

/// A scope that waits for the tasks that are made in it (asyncio 3.11, with the `cancel()` of 3.15).
///
/// If one of them fails, or the body does, the others are cancelled, and the exceptions are raised together as an
/// ExceptionGroup when all have ended. KeyboardInterrupt and SystemExit are raised alone.
#[pyclass(frozen, subclass, dict, weakref, module = "ferrio")]
pub(crate) struct TaskGroup {
    entered: GilCopy<bool>,
    exiting: GilCopy<bool>,
    aborting: GilCopy<bool>,
    /// The group, not somebody else, has asked for its parent to be cancelled, and will take that back.
    parent_cancel_requested: GilCopy<bool>,
    cancel_on_enter: GilCopy<bool>,
    inner: GilCell<Inner>,
}

#[derive(Default)]
struct Inner {
    loop_ref: Option<LoopRef>,
    parent: Option<Py<PyAny>>,
    /// The children that are not done, or whose end the group has not been told: the keys, in the order in which they
    /// came. asyncio has a set, and cancels them in an order that no two runs share.
    tasks: Option<Py<PyDict>>,
    errors: Vec<Py<PyAny>>,
    base_error: Option<Py<PyAny>>,
    /// What the exit waits for: resolved with the last child's end.
    completed: Option<Py<Future>>,
}

impl TaskGroup {
    fn tasks<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyDict>> {
        self.inner.with(py, |inner| inner.tasks.as_ref().map(|tasks| tasks.clone_ref(py).into_bound(py)))
    }

    fn has_tasks(&self, py: Python<'_>) -> bool {
        self.tasks(py).is_some_and(|tasks| !tasks.is_empty())
    }

    fn parent<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.inner.with(py, |inner| inner.parent.as_ref().map(|parent| parent.clone_ref(py).into_bound(py)))
    }

    fn loop_ref(&self, py: Python<'_>) -> Option<LoopRef> {
        self.inner.with(py, |inner| inner.loop_ref.as_ref().map(|loop_ref| loop_ref.clone_ref(py)))
    }

    fn enter(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let group = this.get();
        if group.entered.get(py) {
            let text = format!("TaskGroup {} has already been entered", this.repr()?);
            return Err(PyRuntimeError::new_err(text));
        }
        let loop_ref = LoopRef::running(py)?;
        let Some(parent) = running_task(loop_ref.bind(py))? else {
            let text = format!("TaskGroup {} cannot determine the parent task", this.repr()?);
            return Err(PyRuntimeError::new_err(text));
        };
        let tasks = PyDict::new(py).unbind();
        let previous = group.inner.with(py, |inner| {
            let parent = inner.parent.replace(parent.unbind());
            (inner.loop_ref.replace(loop_ref), parent, inner.tasks.replace(tasks))
        });
        drop(previous);
        group.entered.set(py, true);
        if group.cancel_on_enter.get(py) { Self::cancel(this) } else { Ok(()) }
    }

    /// What is wrong with making a task now.
    fn refusal(this: &Bound<'_, Self>) -> PyResult<Option<PyErr>> {
        let py = this.py();
        let group = this.get();
        let why = if !group.entered.get(py) {
            "has not been entered"
        } else if group.exiting.get(py) && !group.has_tasks(py) {
            "is finished"
        } else if group.aborting.get(py) {
            "is shutting down"
        } else {
            return Ok(None);
        };
        Ok(Some(PyRuntimeError::new_err(format!("TaskGroup {} {why}", this.repr()?))))
    }

    /// Takes a new child in. One that has ended already, having started eagerly, is told of as the others are.
    fn adopt(this: &Bound<'_, Self>, task: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = this.py();
        let group = this.get();
        let Some(tasks) = group.tasks(py) else { return Ok(()) };
        tasks.set_item(task, py.None())?;
        AnyFuture::of(task).notify::<ChildDone>(this, group.parent(py).as_ref())?;
        // What started eagerly can have cancelled the group before it was one of its tasks.
        if group.aborting.get(py) && !AnyFuture::of(task).is_done()? {
            cancel_future(task, None)?;
        }
        Ok(())
    }

    /// Cancels every child.
    fn abort(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        this.get().aborting.set(py, true);
        let Some(tasks) = this.get().tasks(py) else { return Ok(()) };
        // A copy: to cancel runs code, which can change them.
        for task in tasks.keys() {
            if !AnyFuture::of(&task).is_done()? {
                cancel_future(&task, None)?;
            }
        }
        Ok(())
    }

    /// Cancels the task that the body runs in, on the group's own behalf.
    fn cancel_parent(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        match this.get().parent(py) {
            Some(parent) if !this.get().parent_cancel_requested.replace(py, true) => cancellation::cancel(&parent),
            _ => Ok(()),
        }
    }

    /// A child has failed.
    fn failed(this: &Bound<'_, Self>, task: &Bound<'_, PyAny>, error: Bound<'_, PyAny>) -> PyResult<()> {
        let py = this.py();
        let group = this.get();
        let Some(parent) = group.parent(py) else {
            // Nobody waits any more: the group was left by what ended the wait, such as the end of a generator.
            return Self::report_failed(this, task, error, "its group has been left");
        };
        group.add_error(&error);
        if AnyFuture::of(&parent).is_done()? {
            let why = format!("its parent task {} is already completed", parent.repr()?);
            return Self::report_failed(this, task, error, &why);
        }
        if !group.aborting.get(py) && !group.parent_cancel_requested.get(py) {
            // The body is to end as well, and the parent to go on afterwards as if nobody had cancelled it.
            Self::abort(this)?;
            Self::cancel_parent(this)?;
        }
        Ok(())
    }

    /// A child has failed whose exception the group cannot raise.
    #[cold]
    fn report_failed(
        this: &Bound<'_, Self>,
        task: &Bound<'_, PyAny>,
        error: Bound<'_, PyAny>,
        why: &str,
    ) -> PyResult<()> {
        let py = this.py();
        let Some(loop_ref) = this.get().loop_ref(py) else { return Ok(()) };
        let message = PyString::new(py, &format!("Task {} has errored out but {why}", task.repr()?)).into_any();
        let entries = [("message", message), ("exception", error), ("task", task.clone())];
        // What must leave the loop leaves it with the notification.
        if report_kept(loop_ref.bind(py), &entries) == Flow::Break
            && let Some(error) = take_leaving()
        {
            return Err(error);
        }
        Ok(())
    }

    fn add_error(&self, error: &Bound<'_, PyAny>) {
        let py = error.py();
        let is_base = is_base_error(error);
        self.inner.with(py, |inner| {
            inner.errors.push(error.clone().unbind());
            if is_base && inner.base_error.is_none() {
                inner.base_error = Some(error.clone().unbind());
            }
        });
    }

    /// Forgets what an exception could be kept alive by.
    fn forget(&self, py: Python<'_>) {
        let held = self.inner.with(py, |inner| {
            (inner.parent.take(), std::mem::take(&mut inner.errors), inner.base_error.take(), inner.completed.take())
        });
        drop(held);
    }
}

/// Whether the exception is one that leaves the loop, and is raised alone.
fn is_base_error(error: &Bound<'_, PyAny>) -> bool {
    error.is_instance_of::<PySystemExit>() || error.is_instance_of::<PyKeyboardInterrupt>()
}

/// A child is done.
struct ChildDone;

impl Notified for ChildDone {
    type Class = TaskGroup;

    const NAME: &'static str = "TaskGroup._on_task_done";

    #[inline]
    fn notified(this: &Bound<'_, TaskGroup>, task: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = this.py();
        let group = this.get();
        if let Some(tasks) = group.tasks(py) {
            if tasks.contains(task)? {
                tasks.del_item(task)?;
            }
            if tasks.is_empty()
                && let Some(completed) = group.inner.with(py, |inner| inner.completed.as_ref().map(|f| f.clone_ref(py)))
                && completed.get().is_pending(py)
            {
                Future::resolve(completed.bind(py), true.into_pyobject(py)?.to_owned().into_any())?;
            }
        }
        let child = AnyFuture::of(task);
        if child.is_cancelled()? {
            return Ok(());
        }
        match child.exception()? {
            Some(error) => TaskGroup::failed(this, task, error),
            None => Ok(()),
        }
    }
}
