//! `async with`: entering, and waiting for the children.

use pyo3::exceptions::{PyBaseExceptionGroup, PyGeneratorExit, PyRuntimeError, PyTypeError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyType};
use pyo3::{PyTraverseError, intern};

use super::{TaskGroup, is_base_error};
use crate::asyncio;
use crate::coroutine::{Coroutine, Frame, Next, Outcome};
use crate::ffi::async_function::AsyncFunction;
use crate::ffi::method::CallArguments;
use crate::ffi::raise::raise;
use crate::futures::Future;
use crate::tasks::cancellation;

/// The group among the arguments of one of its methods.
fn this(group: Option<Borrowed<'_, '_, PyAny>>) -> PyResult<Py<TaskGroup>> {
    match group.map(|group| group.cast::<TaskGroup>().map(|group| group.to_owned().unbind())) {
        Some(Ok(group)) => Ok(group),
        _ => Err(PyTypeError::new_err("this is a method of TaskGroup")),
    }
}

/// `TaskGroup.__aenter__`.
pub(super) struct Enter;

impl AsyncFunction for Enter {
    const NAME: &'static str = "TaskGroup.__aenter__";

    const PARAMETERS: &'static str = "(self)";

    const DOC: &'static str = "Begins the group, in the task that runs.";

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
pub(super) struct Exit;

impl AsyncFunction for Exit {
    const NAME: &'static str = "TaskGroup.__aexit__";

    const PARAMETERS: &'static str = "(self, et, exc, tb)";

    const DOC: &'static str = "Waits for the tasks of the group.\n\n\
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
