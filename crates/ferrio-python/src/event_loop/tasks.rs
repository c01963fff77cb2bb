//! Futures and tasks, and who makes them.

use std::ffi::CStr;

use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::EventLoop;
use crate::ffi::method::{CallArguments, FastMethod};
use crate::ffi::pool;
use crate::futures::Future;
use crate::loop_ref::LoopRef;
use crate::tasks::{NewTask, Task};

#[pymethods]
impl EventLoop {
    /// Has tasks made by `factory(loop, coro, **kwargs)`; None brings the native ones back.
    fn set_task_factory(&self, py: Python<'_>, factory: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        if factory.as_ref().is_some_and(|factory| !factory.is_callable()) {
            return Err(PyTypeError::new_err("task factory must be a callable or None"));
        }
        drop(self.task_factory.replace(py, factory.map(Bound::unbind)));
        Ok(())
    }

    /// The task factory, or None.
    fn get_task_factory(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.task_factory.clone_ref(py)
    }

    #[getter]
    fn _task_factory(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.task_factory.clone_ref(py)
    }
}

/// `EventLoop.create_task`.
pub(crate) struct CreateTask;

impl FastMethod for CreateTask {
    type Class = EventLoop;

    const NAME: &'static CStr = c"create_task";

    const DOC: &'static CStr =
        c"create_task($self, coro, *, name=None, context=None, eager_start=None, **kwargs)\n--\n\n\
        A task of this loop that runs `coro`; the loop keeps it until it is done.\n\n\
        `name`, `context` and `eager_start` are the task's; a task factory gets these and all others that are given.\n\
        Raises RuntimeError if the loop is closed, TypeError if `coro` is no coroutine.";

    /// Budget: a task from the pool, a copy of the context.
    fn call<'py>(slf: &Bound<'py, EventLoop>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let (coroutine, keywords) = arguments.one_and_keywords("create_task", "coro", 1)?;
        slf.as_super().get().check_open(py)?;
        // A factory is given what the caller gave and no more, None included.
        if let Some(factory) = slf.get().task_factory.clone_ref(py) {
            return factory.bind(py).call((slf, coroutine), keywords.as_ref());
        }
        let loop_ref = EventLoop::loop_ref(slf);
        let mut new = NewTask { coroutine, loop_ref, name: None, context: None, eager_start: false };
        if let Some(keywords) = keywords {
            new.take_keywords(&keywords)?;
        }
        Task::create(py, new).map(Bound::into_any)
    }
}

/// `EventLoop.create_future`.
pub(crate) struct CreateFuture;

impl FastMethod for CreateFuture {
    type Class = EventLoop;

    const NAME: &'static CStr = c"create_future";

    const DOC: &'static CStr = c"create_future($self)\n--\n\nA future of this loop.";

    #[inline]
    fn call<'py>(slf: &Bound<'py, EventLoop>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        arguments.none("create_future")?;
        let py = slf.py();
        pool::make(py, Future::new(py, EventLoop::loop_ref(slf))?).map(Bound::into_any)
    }
}

impl<'py> NewTask<'py> {
    /// # Errors
    ///
    /// `TypeError` for a keyword that `Task` has not.
    fn take_keywords(&mut self, kwargs: &Bound<'py, PyDict>) -> PyResult<()> {
        for (key, value) in kwargs {
            match key.cast::<PyString>()?.to_str()? {
                "name" => self.name = Some(value).filter(|name| !name.is_none()),
                "context" => self.context = Some(value).filter(|context| !context.is_none()),
                "eager_start" => self.eager_start = value.is_truthy()?,
                unknown => {
                    let text = format!("Task() got an unexpected keyword argument '{unknown}'");
                    return Err(PyTypeError::new_err(text));
                }
            }
        }
        Ok(())
    }
}

impl EventLoop {
    #[inline]
    pub(super) fn loop_ref(slf: &Bound<'_, Self>) -> LoopRef {
        LoopRef::Ours(slf.as_super().clone().unbind())
    }
}

/// `loop.create_task(coroutine)` of whatever loop. Runs Python code.
pub(super) fn create_task<'py>(
    loop_object: &Bound<'py, PyAny>,
    coroutine: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    loop_object.call_method1(intern!(loop_object.py(), "create_task"), (coroutine,))
}
