//! Resuming the coroutine, and what comes of it.

use ferrio::engine::Flow;
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::any_future::cancel;
use super::task::Task;
use super::wakeup::{TaskStep, TaskWakeup};
use crate::asyncio;
use crate::contexts::{HasContext, LazyContext};
use crate::current;
use crate::ffi::context;
use crate::ffi::coroutine::{self, Step};
use crate::ffi::raise::{raised, settled};
use crate::ffi::runnable::{Job, Waiter, leave, runnable};
use crate::futures::{Callback, Future, awaited_by};
use crate::handles::{Arguments, Handle, RunHandle, watched};
use crate::loop_ref::{LoopCore, LoopRef, report};

/// A task in the ready queue that has not begun, or that yielded without waiting for anything.
pub(crate) struct FirstStep;

impl Job for FirstStep {
    type Class = Task;

    #[inline]
    fn run(task: &Bound<'_, Task>) -> Flow {
        run_queued(task, None)
    }
}

/// A task in the ready queue whose future is done.
pub(crate) struct Wake;

impl Job for Wake {
    type Class = Task;

    #[inline]
    fn run(task: &Bound<'_, Task>) -> Flow {
        let py = task.py();
        let failure = match task.get().fut_waiter(py) {
            Some(waiter) => failure_of(&waiter),
            None => Ok(None),
        };
        match failure {
            Ok(failure) => run_queued(task, failure),
            Err(error) => run_queued(task, Some(raised(py, error).into_any())),
        }
    }
}

/// What the finished future raises in who awaited it. Only our own futures wake a task by itself.
#[inline]
fn failure_of<'py>(waiter: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    match waiter.cast::<Future>() {
        Ok(future) => Future::failure(future),
        Err(_) => Ok(None),
    }
}

/// Runs one step from the ready queue of our own loop.
#[inline]
fn run_queued(task: &Bound<'_, Task>, failure: Option<Bound<'_, PyAny>>) -> Flow {
    let py = task.py();
    let Some(LoopRef::Ours(core)) = task.as_super().get().loop_ref(py) else {
        debug_assert!(false, "only a loop of ours has a ready queue");
        return Flow::Continue;
    };
    let core = core.bind(py);
    let result = if core.get().debug.get(py) {
        let mut result = Ok(());
        let flow = watched(core.get(), task.as_any(), || {
            result = run_as_current(task, core, failure);
            Flow::Continue
        });
        debug_assert_eq!(flow, Flow::Continue);
        result
    } else {
        run_as_current(task, core, failure)
    };
    match result {
        Ok(()) => Flow::Continue,
        Err(error) => step_failed(task, core.as_any(), error),
    }
}

#[inline]
fn run_as_current(
    task: &Bound<'_, Task>,
    core: &Bound<'_, LoopCore>,
    failure: Option<Bound<'_, PyAny>>,
) -> PyResult<()> {
    let py = task.py();
    core.get().current().set(core.as_any(), task.as_any())?;
    let result = match task.get().context_of_step(py) {
        Ok((Some(context), lent)) => {
            let result = context::run_in(context.as_borrowed(), || step(task, failure)).flatten();
            if let Some(lent) = lent {
                task.get().give_back(context, lent);
            }
            result
        }
        Ok((None, _)) => Err(uninitialized()),
        Err(error) => Err(error),
    };
    if !task.as_super().get().is_pending(py) {
        // The interpreter holds its current task; one that is done must not live until the next step.
        core.get().current().clear(core.as_any());
    }
    result
}

/// A step that could not be taken, or that ended in what must leave the loop.
#[cold]
fn step_failed(task: &Bound<'_, Task>, loop_object: &Bound<'_, PyAny>, error: PyErr) -> Flow {
    let py = task.py();
    let error = settled(py, error);
    if asyncio::leaves_the_loop(py, &error) {
        return leave(error);
    }
    let message = PyString::new(py, "Exception in callback Task.__step()").into_any();
    let exception = raised(py, error).into_any();
    report(loop_object, &[("message", message), ("exception", exception), ("task", task.clone().into_any())])
}

#[cold]
fn uninitialized() -> PyErr {
    PyRuntimeError::new_err("Task object is not initialized.")
}

/// Takes a step for a loop that calls us by a callable, in the task's context already.
pub(super) fn step_called(task: &Bound<'_, Task>, failure: Option<Bound<'_, PyAny>>) -> PyResult<()> {
    let py = task.py();
    let loop_ref = Future::checked_loop(task.as_super())?;
    let loop_object = loop_ref.bind(py);
    if let Some(core) = loop_ref.ours() {
        let previous = core.current().swap(loop_object, task.as_any())?;
        let result = step(task, failure);
        core.current().swap(loop_object, &previous)?;
        return result;
    }
    asyncio::enter_task(py)?.call1((loop_object, task))?;
    let result = step(task, failure);
    asyncio::leave_task(py)?.call1((loop_object, task))?;
    result
}

/// Takes the first step now, inside whatever runs. A task that waits afterwards is like any other.
pub(super) fn start_eagerly(task: &Bound<'_, Task>, loop_ref: &LoopRef) -> PyResult<()> {
    let py = task.py();
    let loop_object = loop_ref.bind(py);
    let context = task.get().context(py)?.ok_or_else(uninitialized)?;
    Task::register(task, loop_ref)?;
    let previous = match loop_ref.ours() {
        Some(core) => core.current().swap(loop_object, task.as_any()),
        None => current::swap(loop_object, task.as_any()),
    };
    let previous = match previous {
        Ok(previous) => previous,
        Err(error) => {
            Task::unregister(task, loop_ref)?;
            return Err(error);
        }
    };
    let result = context::run_in(context.as_borrowed(), || step(task, None)).flatten();
    let restored = match loop_ref.ours() {
        Some(core) => core.current().swap(loop_object, &previous),
        None => current::swap(loop_object, &previous),
    };
    if !task.as_super().get().is_pending(py) {
        let coroutine = task.get().inner.with(py, |inner| inner.coroutine.take());
        drop(coroutine);
    } else if result.is_err() {
        Task::unregister(task, loop_ref)?;
    }
    result.and(restored.map(drop))
}

/// Resumes the coroutine once. The task is the current one and its context is entered.
///
/// # Errors
///
/// What must leave the loop, after the task has been given it; or that the step could not be taken.
#[inline]
fn step(this: &Bound<'_, Task>, failure: Option<Bound<'_, PyAny>>) -> PyResult<()> {
    let py = this.py();
    let task = this.get();
    let future = this.as_super();
    if !future.get().is_pending(py) {
        return Err(already_done(this, failure));
    }
    let failure = if task.must_cancel.replace(py, false) {
        match failure {
            Some(failure) if asyncio::cancelled_error::is(&failure) => Some(failure),
            _ => Some(future.get().make_cancelled_error(py)?),
        }
    } else {
        failure
    };
    let (coroutine, waited) = task
        .inner
        .with(py, |inner| (inner.coroutine.as_ref().map(|coroutine| coroutine.clone_ref(py)), inner.fut_waiter.take()));
    drop(waited.map(|waiter| waiter.into_bound(py)));
    let coroutine = coroutine.ok_or_else(uninitialized)?.into_bound(py);
    let outcome = match &failure {
        None => coroutine::send_none(&coroutine),
        Some(failure) => coroutine::throw(&coroutine, failure),
    };
    match outcome {
        Step::Yielded(yielded) => wait_for(this, yielded),
        Step::Returned(result) => {
            unregister(this)?;
            if task.must_cancel.replace(py, false) {
                // Cancelled right before it stopped.
                let message = future.getattr(intern!(py, "_cancel_message"))?;
                return Future::cancel(future, Some(message)).map(drop);
            }
            Future::resolve(future, result)
        }
        Step::Raised(exception) => {
            unregister(this)?;
            if asyncio::cancelled_error::is(&exception) {
                return Future::cancel_with(future, exception.into_any());
            }
            Future::reject(future, exception.clone().into_any())?;
            let error = PyErr::from(exception);
            if asyncio::leaves_the_loop(py, &error) { Err(error) } else { Ok(()) }
        }
    }
}

fn unregister(this: &Bound<'_, Task>) -> PyResult<()> {
    match this.as_super().get().loop_ref(this.py()) {
        Some(loop_ref) => Task::unregister(this, loop_ref),
        None => Ok(()),
    }
}

#[cold]
fn already_done(this: &Bound<'_, Task>, failure: Option<Bound<'_, PyAny>>) -> PyErr {
    let repr = |object: &Bound<'_, PyAny>| object.repr().map_or_else(|_| "?".to_owned(), |repr| repr.to_string());
    let failure = failure.map_or_else(|| "None".to_owned(), |failure| repr(&failure));
    let text = format!("__step(): already done: {} {failure}", repr(this.as_any()));
    asyncio::invalid_state_error::new_err(this.py(), text)
}

/// Has the task wait for what its coroutine yielded; what cannot be waited for is thrown into it by the next step.
#[inline]
fn wait_for(this: &Bound<'_, Task>, yielded: Bound<'_, PyAny>) -> PyResult<()> {
    let py = this.py();
    let Some(loop_ref) = this.as_super().get().loop_ref(py) else { return Err(uninitialized()) };
    if yielded.is_none() {
        return step_again(this, loop_ref);
    }
    let waits = match Future::native(&yielded) {
        Some(future) => wait_for_ours(this, loop_ref, &yielded, future),
        None => wait_for_any(this, loop_ref, &yielded),
    };
    match waits {
        Ok(Waits::ForIt) => cancel_if_asked(this, &yielded),
        Ok(Waits::ForItsNextStep) => Ok(()),
        // Nothing will wake the task, so what the awaited object's methods raise, or a repr, is the coroutine's to
        // handle.
        Err(error) => queue_step(this, loop_ref, Some(raised(py, error).into_any())),
    }
}

/// What a task does after a step.
enum Waits {
    /// What it yielded will wake it.
    ForIt,
    /// A step is queued that tells the coroutine why it cannot wait for that.
    ForItsNextStep,
}

fn step_again(this: &Bound<'_, Task>, loop_ref: &LoopRef) -> PyResult<()> {
    let py = this.py();
    match loop_ref {
        LoopRef::Ours(core) => {
            core.get().admit(py)?;
            core.get().push(py, runnable::<FirstStep>(this.clone().unbind()));
        }
        LoopRef::Foreign(_) => queue_step(this, loop_ref, None)?,
    }
    Ok(())
}

/// Waits for a future or a task of ours.
fn wait_for_ours(
    this: &Bound<'_, Task>,
    loop_ref: &LoopRef,
    yielded: &Bound<'_, PyAny>,
    future: &Bound<'_, Future>,
) -> PyResult<Waits> {
    let py = this.py();
    if future.is(this) {
        return throw_next(this, loop_ref, &format!("Task cannot await on itself: {}", this.repr()?));
    }
    match future.get().loop_ref(py) {
        Some(its) if its.is(py, loop_ref) => {}
        _ => return throw_next(this, loop_ref, &other_loop(this, yielded)?),
    }
    if !future.get().blocking.replace(py, false) {
        return throw_next(this, loop_ref, &not_awaited(this, yielded)?);
    }
    let callback = match loop_ref {
        LoopRef::Ours(_) => Callback::Wake(Waiter::new::<Wake>(this.clone().unbind())),
        LoopRef::Foreign(_) => {
            let context = this.get().context(py)?.ok_or_else(uninitialized)?;
            let wakeup = Py::new(py, TaskWakeup::new(this.clone().unbind()))?;
            future.get().add_awaited_by(this.as_any())?;
            Callback::Call(wakeup.into_any(), LazyContext::Known(context.unbind()))
        }
    };
    this.get().set_fut_waiter(py, Some(yielded.clone().unbind()));
    Future::add_callback(future, callback)?;
    Ok(Waits::ForIt)
}

/// Waits for a future of another make: a subclass, the standard library's, or anything that behaves so.
#[cold]
fn wait_for_any(this: &Bound<'_, Task>, loop_ref: &LoopRef, yielded: &Bound<'_, PyAny>) -> PyResult<Waits> {
    let py = this.py();
    let blocking = match yielded.getattr_opt(intern!(py, "_asyncio_future_blocking"))? {
        Some(blocking) if !blocking.is_none() => blocking.is_truthy()?,
        _ => return bad_yield(this, loop_ref, yielded),
    };
    if yielded.is(this) {
        return throw_next(this, loop_ref, &format!("Task cannot await on itself: {}", this.repr()?));
    }
    let its_loop = match yielded.getattr_opt(intern!(py, "get_loop"))? {
        Some(get_loop) => get_loop.call0()?,
        None => yielded.getattr(intern!(py, "_loop"))?,
    };
    if !its_loop.is(loop_ref.bind(py)) {
        return throw_next(this, loop_ref, &other_loop(this, yielded)?);
    }
    if !blocking {
        return throw_next(this, loop_ref, &not_awaited(this, yielded)?);
    }
    yielded.setattr(intern!(py, "_asyncio_future_blocking"), false)?;
    let wakeup = Bound::new(py, TaskWakeup::new(this.clone().unbind()))?;
    let keywords = pyo3::types::PyDict::new(py);
    keywords.set_item(intern!(py, "context"), this.get().context(py)?)?;
    yielded.call_method(intern!(py, "add_done_callback"), (wakeup,), Some(&keywords))?;
    awaited_by::add(yielded, this.as_any())?;
    this.get().set_fut_waiter(py, Some(yielded.clone().unbind()));
    Ok(Waits::ForIt)
}

/// A cancellation that came while the coroutine ran is passed on to what it waits for now.
#[inline]
fn cancel_if_asked(this: &Bound<'_, Task>, waiter: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = this.py();
    if this.get().must_cancel.get(py) {
        let message = this.getattr(intern!(py, "_cancel_message"))?;
        if cancel(waiter, Some(&message))? {
            this.get().must_cancel.set(py, false);
        }
    }
    Ok(())
}

#[cold]
fn bad_yield(this: &Bound<'_, Task>, loop_ref: &LoopRef, yielded: &Bound<'_, PyAny>) -> PyResult<Waits> {
    let (task, yielded_repr) = (this.repr()?, yielded.repr()?);
    if coroutine::is_generator(yielded) {
        let text = "yield was used instead of yield from for generator in task";
        return throw_next(this, loop_ref, &format!("{text} {task} with {yielded_repr}"));
    }
    throw_next(this, loop_ref, &format!("Task got bad yield: {yielded_repr}"))
}

#[cold]
fn other_loop(this: &Bound<'_, Task>, yielded: &Bound<'_, PyAny>) -> PyResult<String> {
    Ok(format!("Task {} got Future {} attached to a different loop", this.repr()?, yielded.repr()?))
}

#[cold]
fn not_awaited(this: &Bound<'_, Task>, yielded: &Bound<'_, PyAny>) -> PyResult<String> {
    Ok(format!("yield was used instead of yield from in task {} with {}", this.repr()?, yielded.repr()?))
}

#[cold]
fn throw_next(this: &Bound<'_, Task>, loop_ref: &LoopRef, text: &str) -> PyResult<Waits> {
    let py = this.py();
    let error = raised(py, PyRuntimeError::new_err(text.to_owned())).into_any();
    queue_step(this, loop_ref, Some(error))?;
    Ok(Waits::ForItsNextStep)
}

/// Queues a step behind a callable: one that throws, or one for a loop that is not ours.
fn queue_step(this: &Bound<'_, Task>, loop_ref: &LoopRef, failure: Option<Bound<'_, PyAny>>) -> PyResult<()> {
    let py = this.py();
    let step = Bound::new(py, TaskStep::new(this.clone().unbind(), failure.map(Bound::unbind)))?.into_any();
    let context = this.get().context(py)?.ok_or_else(uninitialized)?;
    match loop_ref {
        LoopRef::Ours(core) => {
            core.get().admit(py)?;
            let loop_ref = loop_ref.clone_ref(py);
            let handle = Handle::new(py, loop_ref, step.unbind(), Arguments::None, Some(context.unbind()))?;
            core.get().push(py, runnable::<RunHandle>(Py::new(py, handle)?));
        }
        LoopRef::Foreign(foreign) => {
            LoopRef::call_soon(foreign.bind(py), &step, None, Some(&context))?;
        }
    }
    Ok(())
}
