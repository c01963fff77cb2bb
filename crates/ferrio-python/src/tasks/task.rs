//! The state of a task: making one, cancelling one.

use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::exceptions::{PyRecursionError, PyRuntimeError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::any_future::cancel;
use super::step::{self, FirstStep};
use super::wakeup::TaskStep;
use crate::asyncio;
use crate::contexts::{HasContext, LazyContext, SteppedContext};
use crate::coroutine::Coroutine;
use crate::ffi::cell::{GilCell, GilCopy};
use crate::ffi::runnable::runnable;
use crate::ffi::{context, coroutine, own_attributes, pool};
use crate::futures::Future;
use crate::loop_ref::{LoopCore, LoopRef};

/// A coroutine that the loop drives, as `asyncio.Task`.
#[pyclass(frozen, extends = Future, subclass, module = "ferrio")]
pub(crate) struct Task {
    pub(super) inner: GilCell<Inner>,
    /// The number under which the loop keeps the task alive.
    pub(super) number: GilCopy<Option<usize>>,
    /// How often `cancel()` was called, less the calls of `uncancel()`.
    pub(super) cancels: GilCopy<u32>,
    pub(super) must_cancel: GilCopy<bool>,
    pub(super) log_destroy_pending: GilCopy<bool>,
}

#[derive(Default)]
pub(super) struct Inner {
    pub(super) coroutine: Option<Py<PyAny>>,
    pub(super) context: SteppedContext,
    /// What the task waits for.
    pub(super) fut_waiter: Option<Py<PyAny>>,
    pub(super) name: Name,
}

/// A task's name. Most are never read, so the ones that are made up are made when they are.
#[derive(Default)]
pub(super) enum Name {
    #[default]
    None,
    Number(u64),
    Given(Py<PyString>),
}

/// What a task is made of.
pub(crate) struct NewTask<'py> {
    pub(crate) coroutine: Bound<'py, PyAny>,
    pub(crate) loop_ref: LoopRef,
    pub(crate) name: Option<Bound<'py, PyAny>>,
    pub(crate) context: Option<Bound<'py, PyAny>>,
    pub(crate) eager_start: bool,
}

static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);

impl Task {
    pub(super) fn uninitialized() -> Self {
        Self {
            inner: GilCell::default(),
            number: GilCopy::new(None),
            cancels: GilCopy::new(0),
            must_cancel: GilCopy::new(false),
            log_destroy_pending: GilCopy::new(true),
        }
    }

    /// Makes a task and queues its first step, or takes that step now if it is to start eagerly.
    ///
    /// # Errors
    ///
    /// `TypeError` if it is no coroutine; what starting eagerly leaves the loop with.
    pub(crate) fn create<'py>(py: Python<'py>, new: NewTask<'py>) -> PyResult<Bound<'py, Self>> {
        let task = pool::make_derived(py, Future::uninitialized(), Self::uninitialized())?;
        Self::initialize(&task, new)?;
        Ok(task)
    }

    pub(super) fn initialize(this: &Bound<'_, Self>, new: NewTask<'_>) -> PyResult<()> {
        let py = this.py();
        let task = this.get();
        let future = this.as_super();
        let is_coroutine = coroutine::is_native(&new.coroutine) || new.coroutine.is_exact_instance_of::<Coroutine>();
        if !is_coroutine && !asyncio::iscoroutine(py)?.call1((&new.coroutine,))?.is_truthy()? {
            return Err(PyTypeError::new_err(format!("a coroutine was expected, got {}", new.coroutine.repr()?)));
        }
        let name = match new.name {
            Some(name) => Name::given(&name)?,
            None => Name::Number(NEXT_NUMBER.fetch_add(1, Ordering::Relaxed)),
        };
        let context = match new.context {
            Some(context) if !context::is_context(&context) => {
                let class = context.get_type().name()?;
                return Err(PyTypeError::new_err(format!("a contextvars.Context was expected, got {class}")));
            }
            given => Some(LazyContext::new(py, given.map(Bound::unbind))?),
        };
        let loop_ref = new.loop_ref.clone_ref(py);
        // The last that can fail without a trace: a task that was refused above can be initialized again.
        if !future.get().initialize(py, new.loop_ref)? {
            let class = this.get_type().name()?;
            return Err(PyRuntimeError::new_err(format!("{class} object is already initialized")));
        }
        let coroutine = Some(new.coroutine.unbind());
        let inner = Inner { coroutine, context, fut_waiter: None, name };
        drop(task.inner.replace(py, inner));
        if new.eager_start && loop_ref.is_running(py)? {
            step::start_eagerly(this, &loop_ref)?;
        } else {
            Self::queue_first_step(this, &loop_ref)?;
        }
        Ok(())
    }

    fn queue_first_step(this: &Bound<'_, Self>, loop_ref: &LoopRef) -> PyResult<()> {
        let py = this.py();
        match loop_ref {
            LoopRef::Ours(core) => {
                core.get().admit(py)?;
                core.get().push(py, runnable::<FirstStep>(this.clone().unbind()));
            }
            LoopRef::Foreign(foreign) => {
                let step = Bound::new(py, TaskStep::new(this.clone().unbind(), None))?;
                let context = this.get().context(py)?;
                LoopRef::call_soon(foreign.bind(py), step.as_any(), None, context.as_ref())?;
            }
        }
        Self::register(this, loop_ref)
    }

    /// Has the loop keep the task until it is done.
    pub(super) fn register(this: &Bound<'_, Self>, loop_ref: &LoopRef) -> PyResult<()> {
        let py = this.py();
        match loop_ref {
            LoopRef::Ours(core) => {
                let number = LoopCore::adopt(core.bind(py), this.as_any())?;
                this.get().number.set(py, Some(number));
            }
            LoopRef::Foreign(_) => drop(asyncio::register_task(py)?.call1((this,))?),
        }
        Ok(())
    }

    /// Undoes [`register`](Self::register) for a task that is done.
    pub(super) fn unregister(this: &Bound<'_, Self>, loop_ref: &LoopRef) -> PyResult<()> {
        let py = this.py();
        match (loop_ref.ours(), this.get().number.replace(py, None)) {
            (Some(core), Some(number)) => drop(core.release(py, number)),
            (Some(_), None) => {}
            (None, _) => drop(asyncio::unregister_task(py)?.call1((this,))?),
        }
        Ok(())
    }

    pub(super) fn fut_waiter<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.inner.with(py, |inner| inner.fut_waiter.as_ref().map(|waiter| waiter.clone_ref(py).into_bound(py)))
    }

    pub(super) fn set_fut_waiter(&self, py: Python<'_>, waiter: Option<Py<PyAny>>) {
        let previous = self.inner.with(py, |inner| std::mem::replace(&mut inner.fut_waiter, waiter));
        drop(previous.map(|waiter| waiter.into_bound(py)));
    }

    /// Asks for the coroutine to be cancelled; false if the task is done. Runs Python code where the task waits for a
    /// future of another make.
    pub(crate) fn request_cancel(this: &Bound<'_, Self>, message: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let py = this.py();
        if !this.as_super().get().is_pending(py) {
            return Ok(false);
        }
        // Tasks that wait for tasks are followed one by one: by recursion, a long chain of them would exhaust the
        // stack.
        let mut task = this.clone();
        let mut circle = Circle::new(this);
        loop {
            let cancels = &task.get().cancels;
            cancels.set(py, cancels.get(py).saturating_add(1));
            let Some(waiter) = task.get().fut_waiter(py) else { break };
            match waiter.cast_into_exact::<Self>() {
                Ok(next) if own_attributes::has(&next, intern!(py, "cancel"))? => {
                    if cancel(next.as_any(), message)? {
                        return Ok(true);
                    }
                    break;
                }
                Ok(next) if next.as_super().get().is_pending(py) => {
                    circle.step(&next)?;
                    task = next;
                }
                Ok(_) => break,
                Err(waiter) => {
                    if cancel(&waiter.into_inner(), message)? {
                        // What was cancelled wakes the task.
                        return Ok(true);
                    }
                    break;
                }
            }
        }
        task.get().must_cancel.set(py, true);
        task.as_super().get().set_cancel_message(py, message.cloned());
        Ok(true)
    }
}

impl HasContext for Task {
    #[inline]
    fn with_context<R>(&self, py: Python<'_>, f: impl FnOnce(&mut SteppedContext) -> R) -> R {
        self.inner.with(py, |inner| f(&mut inner.context))
    }
}

/// Notices that a walk from task to task goes round: by a mark, which is moved on at every doubling of the distance.
struct Circle<'py> {
    mark: Bound<'py, Task>,
    steps: usize,
    limit: usize,
}

impl<'py> Circle<'py> {
    fn new(start: &Bound<'py, Task>) -> Self {
        Self { mark: start.clone(), steps: 0, limit: 1 }
    }

    /// # Errors
    ///
    /// `RecursionError` if the walk has been at `task` before, sooner or later.
    fn step(&mut self, task: &Bound<'py, Task>) -> PyResult<()> {
        if task.is(&self.mark) {
            return Err(PyRecursionError::new_err("maximum recursion depth exceeded: tasks wait for each other"));
        }
        self.steps += 1;
        if self.steps == self.limit {
            *self = Self { mark: task.clone(), steps: 0, limit: self.limit * 2 };
        }
        Ok(())
    }
}

impl Name {
    pub(super) fn given(name: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(match name.cast_exact::<PyString>() {
            Ok(name) => Self::Given(name.clone().unbind()),
            Err(_) => Self::Given(name.str()?.unbind()),
        })
    }
}
