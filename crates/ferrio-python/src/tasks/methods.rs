//! What Python sees of a task.

use std::ffi::CStr;

use ferrio::engine::Flow;
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyList, PyString, PyTuple, PyType};
use pyo3::{PyTraverseError, intern};

use super::task::{Inner, Name, NewTask, Task};
use crate::asyncio;
use crate::contexts::HasContext;
use crate::ffi::finalizer::Finalize;
use crate::ffi::method::{CallArguments, FastMethod};
use crate::ffi::newborn;
use crate::ffi::pool::{Pool, Pooled};
use crate::ffi::thread::attached;
use crate::futures::Future;
use crate::loop_ref::{LoopRef, report_kept};

#[pymethods]
impl Task {
    #[new]
    #[classmethod]
    #[pyo3(
        signature = (*_args, **_kwargs),
        text_signature = "(coro, *, loop=None, name=None, context=None, eager_start=False)"
    )]
    fn __new__(
        cls: &Bound<'_, PyType>,
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyClassInitializer<Self> {
        newborn::has_dict(cls.py());
        let native = cls.is(cls.py().get_type::<Self>());
        PyClassInitializer::from(Future::of_class(native)).add_subclass(Self::uninitialized())
    }

    /// A task of `loop`, or of the current loop, that runs `coro`.
    ///
    /// With `eager_start` (asyncio 3.12) the coroutine runs at once up to its first real wait, if the loop is running.
    #[pyo3(signature = (coro, *, r#loop=None, name=None, context=None, eager_start=None))]
    fn __init__(
        slf: &Bound<'_, Self>,
        coro: Bound<'_, PyAny>,
        r#loop: Option<&Bound<'_, PyAny>>,
        name: Option<Bound<'_, PyAny>>,
        context: Option<Bound<'_, PyAny>>,
        eager_start: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let loop_ref = match r#loop {
            Some(loop_object) => LoopRef::new(loop_object),
            None => LoopRef::new(&asyncio::get_event_loop(slf.py())?.call0()?),
        };
        let eager_start = eager_start.map_or(Ok(false), |eager_start| eager_start.is_truthy())?;
        Self::initialize(slf, NewTask { coroutine: coro, loop_ref, name, context, eager_start })
    }

    /// How many times `cancel()` was called, less the calls of `uncancel()` (asyncio 3.11).
    pub(super) fn cancelling(&self, py: Python<'_>) -> u32 {
        self.cancels.get(py)
    }

    /// Takes one request to cancel back and returns how many are left (asyncio 3.11).
    ///
    /// When none is left, a cancellation that has not been raised yet is taken back as well.
    pub(super) fn uncancel(&self, py: Python<'_>) -> u32 {
        let left = self.cancels.get(py).saturating_sub(1);
        self.cancels.set(py, left);
        if left == 0 {
            self.must_cancel.set(py, false);
        }
        left
    }

    /// The coroutine; None if it ended in an eager start.
    fn get_coro(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.inner.with(py, |inner| inner.coroutine.as_ref().map(|coroutine| coroutine.clone_ref(py)))
    }

    /// The context that the coroutine runs in (asyncio 3.12).
    fn get_context<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.context(py)
    }

    /// The task's name.
    fn get_name<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        let given = self.inner.with(py, |inner| match &inner.name {
            Name::None => Ok(None),
            Name::Number(number) => Err(*number),
            Name::Given(name) => Ok(Some(name.clone_ref(py))),
        });
        match given {
            Ok(Some(name)) => name.into_bound(py).into_any(),
            Ok(None) => py.None().into_bound(py),
            Err(number) => {
                let name = PyString::new(py, &format!("Task-{number}"));
                let made = Name::Given(name.clone().unbind());
                drop(self.inner.with(py, |inner| std::mem::replace(&mut inner.name, made)));
                name.into_any()
            }
        }
    }

    /// Names the task; what is no string is made one.
    fn set_name(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let name = Name::given(value)?;
        drop(self.inner.with(value.py(), |inner| std::mem::replace(&mut inner.name, name)));
        Ok(())
    }

    /// The frames of the task's coroutine, the innermost last; at most `limit` of them.
    #[pyo3(signature = (*, limit=None))]
    fn get_stack<'py>(slf: &Bound<'py, Self>, limit: Option<Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        asyncio::task_get_stack(slf.py())?.call1((slf, limit))
    }

    /// Prints the stack, or the traceback of the exception that ended the task, to `file` or the standard error.
    #[pyo3(signature = (*, limit=None, file=None))]
    fn print_stack<'py>(
        slf: &Bound<'py, Self>,
        limit: Option<Bound<'py, PyAny>>,
        file: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        asyncio::task_print_stack(slf.py())?.call1((slf, limit, file))
    }

    /// Raises RuntimeError: a task's result is its coroutine's.
    fn set_result(&self, _result: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(PyRuntimeError::new_err("Task does not support set_result operation"))
    }

    /// Raises RuntimeError: a task's exception is its coroutine's.
    fn set_exception(&self, _exception: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(PyRuntimeError::new_err("Task does not support set_exception operation"))
    }

    fn __repr__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        if slf.get().inner.with(py, |inner| inner.coroutine.is_some()) {
            return asyncio::task_repr(py)?.call1((slf,));
        }
        // It ended in an eager start, of which asyncio's knows nothing on Python 3.11.
        let words = asyncio::future_repr_info(py)?.call1((slf,))?.cast_into::<PyList>()?;
        words.insert(1, format!("name={}", slf.call_method0(intern!(py, "get_name"))?.repr()?))?;
        let words = PyString::new(py, " ").call_method1(intern!(py, "join"), (words,))?;
        Ok(PyString::new(py, &format!("<{} {words}>", slf.get_type().name()?)).into_any())
    }

    #[classmethod]
    fn __class_getitem__<'py>(cls: &Bound<'py, PyType>, item: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        asyncio::generic_alias(cls.py())?.call1((cls, item))
    }

    /// `asyncio.Task` for a plain task, so that `isinstance` says yes; a subclass answers for itself.
    #[getter]
    fn __class__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        if slf.is_exact_instance_of::<Self>() {
            return asyncio::task_class(slf.py()).cloned();
        }
        Ok(slf.get_type().into_any())
    }

    #[getter]
    fn _coro(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.get_coro(py)
    }

    #[getter]
    fn _context<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.context(py)
    }

    #[getter]
    fn _must_cancel(&self, py: Python<'_>) -> bool {
        self.must_cancel.get(py)
    }

    #[getter]
    fn _fut_waiter<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.fut_waiter(py)
    }

    #[getter]
    fn _num_cancels_requested(&self, py: Python<'_>) -> u32 {
        self.cancels.get(py)
    }

    #[getter(_log_destroy_pending)]
    fn get_log_destroy_pending(&self, py: Python<'_>) -> bool {
        self.log_destroy_pending.get(py)
    }

    #[setter(_log_destroy_pending)]
    fn set_log_destroy_pending(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.log_destroy_pending.set(value.py(), value.is_truthy()?);
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.inner.traverse(visit, |inner, visit| {
            visit.call(&inner.coroutine)?;
            inner.context.iter().try_for_each(|context| context.traverse(visit))?;
            visit.call(&inner.fut_waiter)?;
            match &inner.name {
                Name::Given(name) => visit.call(name),
                Name::None | Name::Number(_) => Ok(()),
            }
        })
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        drop(slf.get().inner.take(slf.py()));
    }
}

/// `Task.cancel`.
pub(super) struct Cancel;

impl FastMethod for Cancel {
    type Class = Task;

    const NAME: &'static CStr = c"cancel";

    const DOC: &'static CStr = c"cancel($self, msg=None)\n--\n\n\
        Asks for CancelledError to be raised in the coroutine at its next step, with `msg`. False if the task is done.";

    fn call<'py>(this: &Bound<'py, Task>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        let [message] = arguments.bind("cancel", ["msg"], 0, 1)?;
        this.as_super().get().log_traceback_off(py);
        let is_asked = Task::request_cancel(this, message.as_deref())?;
        Ok(PyBool::new(py, is_asked).to_owned().into_any())
    }
}

impl Finalize for Task {
    fn finalize(object: &Bound<'_, Self>) {
        let py = object.py();
        let future = object.as_super();
        if future.get().is_pending(py) && object.get().log_destroy_pending.replace(py, false) {
            report_destroyed(object);
        }
        Future::finalize_future(future);
    }
}

impl Pooled for Task {
    type Base = Future;

    fn pool() -> &'static Pool {
        static POOL: Pool = Pool::new();
        &POOL
    }

    fn is_last_word_due(object: &Bound<'_, Self>) -> bool {
        let future = object.as_super();
        future.get().is_pending(object.py()) || Future::is_last_word_due(future)
    }

    fn dispose(self, py: Python<'_>) {
        let Inner { coroutine, context, fut_waiter, name } = self.inner.into_inner();
        drop(coroutine.map(|coroutine| coroutine.into_bound(py)));
        if let Some(context) = context {
            context.dispose(py);
        }
        if fut_waiter.is_some() || matches!(name, Name::Given(_)) {
            attached(py, |_| drop((fut_waiter, name)));
        }
    }
}

#[cold]
fn report_destroyed(this: &Bound<'_, Task>) {
    let py = this.py();
    let Some(loop_ref) = this.as_super().get().loop_ref(py).map(|loop_ref| loop_ref.clone_ref(py)) else { return };
    let message = PyString::new(py, "Task was destroyed but it is pending!").into_any();
    let mut entries = vec![("task", this.clone().into_any()), ("message", message)];
    if let Ok(stack) = this.getattr(intern!(py, "_source_traceback"))
        && !stack.is_none()
    {
        entries.push(("source_traceback", stack));
    }
    if report_kept(loop_ref.bind(py), &entries) == Flow::Break
        && let Some(error) = crate::ffi::runnable::take_leaving()
    {
        error.write_unraisable(py, Some(this));
    }
}
