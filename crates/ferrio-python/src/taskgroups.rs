//! `TaskGroup`.
//!
//! # Budget of a child
//!
//! Its task, an entry in the group's dictionary, and one in the loop's ready queue when it is done: the group is told
//! natively, without a bound method, a handle or a context.

use pyo3::exceptions::{
    PyBaseExceptionGroup, PyGeneratorExit, PyKeyboardInterrupt, PyRuntimeError, PySystemExit, PyTypeError,
};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PySet, PyString, PyTuple, PyType};
use pyo3::{PyTraverseError, intern};

use crate::asyncio;
use crate::coroutine::{Coroutine, Frame, Next, Outcome};
use crate::ffi::async_function::{self, AsyncFunction};
use crate::ffi::call::{method0, method1};
use crate::ffi::cell::{GilCell, GilCopy};
use crate::ffi::method::{self, CallArguments, FastMethod};
use crate::ffi::raise::raise;
use crate::futures::{Future, Notified};
use crate::loop_ref::{LoopRef, report};
use crate::tasks::{AnyFuture, cancel_future, cancellation, running_task};

/// Adds what the module exports.
pub(crate) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let class = py.get_type::<TaskGroup>();
    async_function::install::<Enter>(&class)?;
    async_function::install::<Exit>(&class)?;
    method::install::<CreateTask>(py)?;
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
        if report(loop_ref.bind(py), &entries) == ferrio::engine::Flow::Break
            && let Some(error) = crate::ffi::runnable::take_leaving()
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

#[pymethods]
impl TaskGroup {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "()")]
    fn __new__(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
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
    fn cancel(slf: &Bound<'_, Self>) -> PyResult<()> {
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

/// `TaskGroup.create_task`.
struct CreateTask;

impl FastMethod for CreateTask {
    type Class = TaskGroup;

    const NAME: &'static std::ffi::CStr = c"create_task";

    const DOC: &'static std::ffi::CStr = c"create_task($self, coro, **kwargs)\n--\n\n\
        A task of the group that runs `coro`; the loop's create_task gets the keywords.\n\n\
        Raises RuntimeError, and closes the coroutine, if the group has not been entered, shuts down or is finished.";

    fn call<'py>(this: &Bound<'py, TaskGroup>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        let (coroutine, keywords) = arguments.one_and_keywords("TaskGroup.create_task", "coro")?;
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

/// The group among the arguments of one of its methods.
fn this(group: Option<Borrowed<'_, '_, PyAny>>) -> PyResult<Py<TaskGroup>> {
    match group.map(|group| group.cast::<TaskGroup>().map(|group| group.to_owned().unbind())) {
        Some(Ok(group)) => Ok(group),
        _ => Err(PyTypeError::new_err("this is a method of TaskGroup")),
    }
}

/// `TaskGroup.__aenter__`.
struct Enter;

impl AsyncFunction for Enter {
    const NAME: &'static str = "TaskGroup.__aenter__";

    const PARAMETERS: &'static str = "(self)";

    const DOC: &'static str = "Begin the group, in the task that runs.";

    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let [group] = arguments.bind("__aenter__", ["self"], 1, 1)?;
        Coroutine::of(py, Self::NAME, Entering(this(group)?))
    }
}

struct Entering(Py<TaskGroup>);

impl Frame for Entering {
    fn step<'py>(&mut self, py: Python<'py>, _outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        let group = self.0.bind(py);
        TaskGroup::enter(group)?;
        Ok(Next::Return(group.clone().into_any()))
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.0)
    }
}

/// `TaskGroup.__aexit__`.
struct Exit;

impl AsyncFunction for Exit {
    const NAME: &'static str = "TaskGroup.__aexit__";

    const PARAMETERS: &'static str = "(self, et, exc, tb)";

    const DOC: &'static str = "Wait for the tasks of the group.\n\n\
        Raises the exceptions of the body and the tasks as a BaseExceptionGroup; KeyboardInterrupt, SystemExit, and a\n\
        CancelledError that is not the group's own, by themselves.";

    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let [group, kind, failure, _] = arguments.bind("__aexit__", ["self", "et", "exc", "tb"], 4, 4)?;
        let failure = match (kind, failure) {
            (Some(kind), Some(failure)) if !failure.is_none() && kind.cast::<PyType>().is_ok() => Some(failure),
            _ => None,
        };
        let failure = failure.map(|failure| failure.to_owned().unbind());
        Coroutine::of(py, Self::NAME, Exiting { group: this(group)?, failure, begun: false, cancellations: None })
    }
}

struct Exiting {
    group: Py<TaskGroup>,
    /// What the body raised.
    failure: Option<Py<PyAny>>,
    begun: bool,
    cancellations: Option<Box<Cancellations>>,
}

/// The cancellations of the parent that the exit has to do with.
#[derive(Default)]
struct Cancellations {
    /// To be raised at the end, since it began the shutdown.
    propagated: Option<Py<PyAny>>,
    /// The last that came while the exit waited.
    pending: Option<Py<PyAny>>,
}

impl Frame for Exiting {
    fn step<'py>(&mut self, py: Python<'py>, outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        let result = self.advance(py, outcome);
        if !matches!(result, Ok(Next::Await(_))) {
            self.group.get().forget(py);
        }
        result
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.group)?;
        visit.call(&self.failure)?;
        match &self.cancellations {
            Some(cancellations) => {
                visit.call(&cancellations.propagated)?;
                visit.call(&cancellations.pending)
            }
            None => Ok(()),
        }
    }
}

impl Exiting {
    fn cancellations(&mut self) -> &mut Cancellations {
        self.cancellations.get_or_insert_default()
    }

    fn advance<'py>(&mut self, py: Python<'py>, outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        let this = self.group.clone_ref(py).into_bound(py);
        let group = this.get();
        if std::mem::replace(&mut self.begun, true) {
            self.waited(&this, outcome)?;
        } else {
            self.begin(&this)?;
        }
        if group.has_tasks(py) {
            let Some(loop_ref) = group.loop_ref(py) else {
                return Err(PyRuntimeError::new_err("no running event loop"));
            };
            let completed = Bound::new(py, Future::new(py, loop_ref)?)?;
            let previous = group.inner.with(py, |inner| inner.completed.replace(completed.clone().unbind()));
            drop(previous);
            return Ok(Next::Await(completed.into_any()));
        }
        self.end(&this)
    }

    /// The body has ended.
    fn begin(&mut self, this: &Bound<'_, TaskGroup>) -> PyResult<()> {
        let py = this.py();
        let group = this.get();
        group.exiting.set(py, true);
        let Some(failure) = self.failure.as_ref().map(|failure| failure.clone_ref(py).into_bound(py)) else {
            return Ok(());
        };
        if is_base_error(&failure) {
            group.inner.with(py, |inner| {
                if inner.base_error.is_none() {
                    inner.base_error = Some(failure.clone().unbind());
                }
            });
        }
        if asyncio::cancelled_error::is(&failure) {
            self.cancellations().propagated = Some(failure.unbind());
        }
        if group.aborting.get(py) { Ok(()) } else { TaskGroup::abort(this) }
    }

    /// The wait for the children has ended, with the last one or by a cancellation of the parent.
    fn waited(&mut self, this: &Bound<'_, TaskGroup>, outcome: Outcome<'_>) -> PyResult<()> {
        let py = this.py();
        drop(this.get().inner.with(py, |inner| inner.completed.take()));
        let Err(error) = outcome else { return Ok(()) };
        if !asyncio::cancelled_error::is(error.value(py)) {
            return Err(error);
        }
        let error = error.into_value(py).into_any();
        self.cancellations().pending = Some(error.clone_ref(py));
        if this.get().aborting.get(py) {
            return Ok(());
        }
        self.cancellations().propagated = Some(error);
        TaskGroup::abort(this)
    }

    /// Every child has ended.
    fn end<'py>(&mut self, this: &Bound<'py, TaskGroup>) -> PyResult<Next<'py>> {
        let py = this.py();
        let group = this.get();
        let failure = self.failure.take().map(|failure| failure.into_bound(py));
        let (base_error, errors) =
            group.inner.with(py, |inner| (inner.base_error.take(), std::mem::take(&mut inner.errors)));
        if let Some(base_error) = base_error {
            return Err(raise(base_error.into_bound(py).cast_into()?));
        }
        let parent = group.parent(py);
        let Cancellations { mut propagated, pending } = self.cancellations.take().map_or_else(Default::default, |c| *c);
        if group.parent_cancel_requested.get(py)
            && let Some(parent) = &parent
        {
            // The group's own request is taken back; a cancellation that is left is somebody else's.
            if cancellation::uncancel(parent)? == 0 {
                propagated = None;
            } else if propagated.is_none() {
                propagated = pending;
            }
        }
        if let Some(error) = propagated
            && errors.is_empty()
        {
            return Err(PyErr::from_value(error.into_bound(py)));
        }
        let mut errors = errors;
        if let Some(failure) = &failure
            && !asyncio::cancelled_error::is(failure)
        {
            errors.push(failure.clone().unbind());
        }
        if errors.is_empty() {
            return Ok(Next::Return(true.into_pyobject(py)?.to_owned().into_any()));
        }
        if let Some(parent) = &parent
            && cancellation::cancelling(parent)? != 0
        {
            // What was asked for from outside is not lost: it comes again, and the count stays what it was.
            cancellation::uncancel(parent)?;
            cancellation::cancel(parent)?;
        }
        Err(together(py, errors, failure)?)
    }
}

/// The exceptions of a group as one; a generator that is closed inside the group ends with GeneratorExit all the same.
fn together(py: Python<'_>, errors: Vec<Py<PyAny>>, failure: Option<Bound<'_, PyAny>>) -> PyResult<PyErr> {
    if let Some(failure) = &failure
        && errors.len() == 1
        && failure.is_instance_of::<PyGeneratorExit>()
    {
        return Ok(PyErr::from_value(failure.clone()));
    }
    let errors = PyList::new(py, errors)?;
    let group = py.get_type::<PyBaseExceptionGroup>().call1(("unhandled errors in a TaskGroup", errors))?;
    group.setattr(intern!(py, "__context__"), failure)?;
    // As `from None`: what the context is can be seen among the exceptions.
    group.setattr(intern!(py, "__suppress_context__"), true)?;
    Ok(PyErr::from_value(group))
}
