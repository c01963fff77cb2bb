//! The state of a future, and what Rust does with it.

use pyo3::exceptions::{PyBaseException, PyRuntimeError, PyStopIteration, PyTypeError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::PyType;
use pyo3::{PyTraverseError, intern};

use super::awaited_by::Awaiters;
use super::callbacks::{Callback, Callbacks};
use super::notify::RunNotify;
use crate::asyncio;
use crate::ffi::cell::{GilCell, GilCopy, GilOnce};
use crate::ffi::raise;
use crate::ffi::raise::raised;
use crate::ffi::runnable::runnable;
use crate::ffi::thread::attached;
use crate::handles::{Arguments, Handle, RunHandle};
use crate::loop_ref::LoopRef;

/// Where a future stands. It leaves [`Pending`](Self::Pending) once and never comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing has happened; callbacks may be waiting.
    Pending,
    /// `cancel()` was called before there was a result.
    Cancelled,
    /// There is a result.
    Returned,
    /// There is an exception.
    Raised,
}

/// A result that is not there yet, as `asyncio.Future`.
#[pyclass(frozen, subclass, dict, weakref, module = "ferrio")]
pub(crate) struct Future {
    /// Empty between `__new__` and `__init__` only, which a subclass can make last.
    loop_ref: GilOnce<LoopRef>,
    state: GilCopy<State>,
    /// An exception is set that nobody has fetched: the finalizer will say so.
    pub(super) log_traceback: GilCopy<bool>,
    /// The future has been yielded to a task, which has not yet acknowledged it: see `_asyncio_future_blocking`.
    pub(crate) blocking: GilCopy<bool>,
    /// Whether no Python class stands between the object and Rust, see [`native`](Self::native).
    native: bool,
    pub(super) inner: GilCell<Inner>,
}

#[derive(Default)]
pub(super) struct Inner {
    pub(super) callbacks: Callbacks,
    /// The result, or the exception; of a cancelled task the one that its coroutine was left with, given out once.
    pub(super) value: Option<Py<PyAny>>,
    pub(super) rare: Option<Box<Rare>>,
}

/// What most futures never have.
#[derive(Default)]
pub(super) struct Rare {
    pub(super) cancel_message: Option<Py<PyAny>>,
    /// What the exception's traceback was when it was set: every fetch begins from there.
    pub(super) exception_traceback: Option<Py<PyAny>>,
    pub(super) source_traceback: Option<Py<PyAny>>,
    /// Who awaits this future by other means than a task's await: gather, groups, shields.
    pub(super) awaited_by: Option<Awaiters>,
}

impl Inner {
    pub(super) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }
}

pub(super) const NOT_INITIALIZED: &str = "Future object is not initialized.";

impl Future {
    /// A future of `loop_ref`. Runs Python code in debug mode only.
    #[inline]
    pub(crate) fn new(py: Python<'_>, loop_ref: LoopRef) -> PyResult<Self> {
        match &loop_ref {
            LoopRef::Ours(core) if !core.get().debug.get(py) => {
                Ok(Self { loop_ref: GilOnce::new(loop_ref), ..Self::uninitialized() })
            }
            _ => Self::new_slowly(py, loop_ref),
        }
    }

    #[cold]
    fn new_slowly(py: Python<'_>, loop_ref: LoopRef) -> PyResult<Self> {
        let future = Self::uninitialized();
        future.initialize(py, loop_ref)?;
        Ok(future)
    }

    #[inline]
    pub(crate) fn uninitialized() -> Self {
        Self::of_class(true)
    }

    /// A future before `__init__`: of a class of ours, or of one that Python code made of it.
    #[inline]
    pub(crate) fn of_class(native: bool) -> Self {
        Self {
            native,
            loop_ref: GilOnce::empty(),
            state: GilCopy::new(State::Pending),
            log_traceback: GilCopy::new(false),
            blocking: GilCopy::new(false),
            inner: GilCell::default(),
        }
    }

    /// `object` as a future, if it is one of ours whose methods nobody has overridden.
    #[inline]
    pub(crate) fn native<'a, 'py>(object: &'a Bound<'py, PyAny>) -> Option<&'a Bound<'py, Self>> {
        object.cast::<Self>().ok().filter(|future| future.get().native)
    }

    /// Gives the future its loop; false if it has one.
    pub(crate) fn initialize(&self, py: Python<'_>, loop_ref: LoopRef) -> PyResult<bool> {
        let debug = loop_ref.debug(py)?;
        if self.loop_ref.set(py, loop_ref).is_err() {
            return Ok(false);
        }
        if debug {
            let stack = asyncio::stack_here(py)?;
            self.inner.with(py, |inner| inner.rare().source_traceback = Some(stack));
        }
        Ok(true)
    }

    /// The loop, if the future has been initialized.
    #[inline]
    pub(crate) fn loop_ref(&self, py: Python<'_>) -> Option<&LoopRef> {
        self.loop_ref.get(py)
    }

    /// Gives up what the future holds.
    pub(super) fn dispose_future(self, py: Python<'_>) {
        if let Some(loop_ref) = self.loop_ref.into_inner() {
            loop_ref.dispose(py);
        }
        let Inner { callbacks, value, rare } = self.inner.into_inner();
        drop(value.map(|value| value.into_bound(py)));
        if !callbacks.is_none() || rare.is_some() {
            attached(py, |py| {
                callbacks.dispose(py);
                drop(rare);
            });
        }
    }

    /// # Errors
    ///
    /// `RuntimeError` if a subclass has not called `__init__`.
    #[inline]
    pub(crate) fn checked_loop<'a>(this: &'a Bound<'_, Self>) -> PyResult<&'a LoopRef> {
        this.get().loop_ref.get(this.py()).ok_or_else(Self::not_initialized)
    }

    /// # Errors
    ///
    /// `RuntimeError` if a subclass has not called `__init__`.
    #[inline]
    pub(super) fn check_initialized(this: &Bound<'_, Self>) -> PyResult<()> {
        if this.get().loop_ref.get(this.py()).is_some() { Ok(()) } else { Err(Self::not_initialized()) }
    }

    #[cold]
    fn not_initialized() -> PyErr {
        PyRuntimeError::new_err(NOT_INITIALIZED)
    }

    #[inline]
    pub(crate) fn state(&self, py: Python<'_>) -> State {
        self.state.get(py)
    }

    #[inline]
    pub(crate) fn is_pending(&self, py: Python<'_>) -> bool {
        self.state.get(py) == State::Pending
    }

    /// Marks the future cancelled; false if it was done. Queues the callbacks.
    pub(crate) fn cancel(this: &Bound<'_, Self>, message: Option<Bound<'_, PyAny>>) -> PyResult<bool> {
        let py = this.py();
        let future = this.get();
        future.log_traceback.set(py, false);
        if !future.is_pending(py) {
            return Ok(false);
        }
        future.state.set(py, State::Cancelled);
        future.set_cancel_message(py, message);
        Self::schedule(this)?;
        Ok(true)
    }

    /// A task that is cancelled has no exception left to report.
    pub(crate) fn log_traceback_off(&self, py: Python<'_>) {
        self.log_traceback.set(py, false);
    }

    pub(crate) fn set_cancel_message(&self, py: Python<'_>, message: Option<Bound<'_, PyAny>>) {
        let message = message.filter(|message| !message.is_none()).map(Bound::unbind);
        let previous = self.inner.with(py, |inner| match message {
            None if inner.rare.is_none() => None,
            message => std::mem::replace(&mut inner.rare().cancel_message, message),
        });
        drop(previous);
    }

    /// Marks a task's future cancelled by an exception that its coroutine raised, to be given to whoever awaits it.
    pub(crate) fn cancel_with(this: &Bound<'_, Self>, error: Bound<'_, PyAny>) -> PyResult<()> {
        let py = this.py();
        if this.get().is_pending(py) {
            let error = error.unbind();
            this.get().inner.with(py, |inner| inner.value = Some(error));
        }
        // The message was the exception's: who asks a second time gets one without, as from asyncio.
        Self::cancel(this, None).map(drop)
    }

    /// Sets the result of a future that is pending. Queues the callbacks.
    ///
    /// # Errors
    ///
    /// `InvalidStateError` if the future is done.
    #[inline]
    pub(crate) fn resolve(this: &Bound<'_, Self>, result: Bound<'_, PyAny>) -> PyResult<()> {
        let py = this.py();
        let future = this.get();
        if !future.is_pending(py) {
            return Err(invalid_state(py, "invalid state"));
        }
        let result = result.unbind();
        future.inner.with(py, |inner| inner.value = Some(result));
        future.state.set(py, State::Returned);
        Self::schedule(this)
    }

    /// Sets the exception of a future that is pending. Queues the callbacks.
    ///
    /// # Errors
    ///
    /// `InvalidStateError` if the future is done; `TypeError` if it is not an exception.
    pub(crate) fn reject(this: &Bound<'_, Self>, exception: Bound<'_, PyAny>) -> PyResult<()> {
        let py = this.py();
        let future = this.get();
        if !future.is_pending(py) {
            return Err(invalid_state(py, "invalid state"));
        }
        let exception = match exception.cast::<PyType>() {
            Ok(class) if class.is_subclass_of::<PyBaseException>()? => class.call0()?,
            _ => exception,
        };
        if !exception.is_instance_of::<PyBaseException>() {
            return Err(PyTypeError::new_err("invalid exception object"));
        }
        let exception = if exception.is_instance_of::<PyStopIteration>() {
            let text = "StopIteration interacts badly with generators and cannot be raised into a Future";
            let replacement = raised(py, PyRuntimeError::new_err(text)).into_any();
            replacement.setattr("__cause__", &exception)?;
            replacement.setattr("__context__", &exception)?;
            replacement
        } else {
            exception
        };
        // Making an exception runs Python code, which can have settled the future meanwhile.
        if !future.is_pending(py) {
            return Err(invalid_state(py, "invalid state"));
        }
        let traceback = exception.getattr(intern!(py, "__traceback__"))?;
        let traceback = (!traceback.is_none()).then(|| traceback.unbind());
        let exception = exception.unbind();
        future.inner.with(py, |inner| {
            inner.value = Some(exception);
            if traceback.is_some() {
                inner.rare().exception_traceback = traceback;
            }
        });
        future.state.set(py, State::Raised);
        future.log_traceback.set(py, true);
        Self::schedule(this)
    }

    /// The result.
    ///
    /// # Errors
    ///
    /// The exception that was set, `CancelledError`, or `InvalidStateError` if the future is pending.
    #[inline]
    pub(crate) fn result<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        let future = this.get();
        match future.state.get(py) {
            State::Returned => Ok(future.value(py)),
            State::Pending => Err(invalid_state(py, "Result is not set.")),
            State::Raised | State::Cancelled => match Self::failure(this)? {
                Some(error) => Err(raise::in_context(raise::exception(error)).into()),
                None => Ok(py.None().into_bound(py)),
            },
        }
    }

    /// What was set, as the state says; None if nothing was.
    #[inline]
    pub(crate) fn value<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        let value = self.inner.with(py, |inner| inner.value.as_ref().map(|value| value.clone_ref(py)));
        value.map_or_else(|| py.None().into_bound(py), |value| value.into_bound(py))
    }

    /// What awaiting the finished future raises, if it does; the exception counts as fetched.
    pub(crate) fn failure<'py>(this: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = this.py();
        let future = this.get();
        match future.state.get(py) {
            State::Pending | State::Returned => Ok(None),
            State::Cancelled => future.make_cancelled_error(py).map(Some),
            State::Raised => {
                future.log_traceback.set(py, false);
                let (exception, traceback) = future.inner.with(py, |inner| {
                    let traceback = inner.rare.as_ref().and_then(|rare| rare.exception_traceback.as_ref());
                    (inner.value.as_ref().map(|value| value.clone_ref(py)), traceback.map(|t| t.clone_ref(py)))
                });
                let Some(exception) = exception.map(|exception| exception.into_bound(py)) else { return Ok(None) };
                // Reset, so that the traceback does not grow with every fetch.
                let traceback = traceback.unwrap_or_else(|| py.None());
                exception.setattr(intern!(py, "__traceback__"), traceback)?;
                Ok(Some(exception))
            }
        }
    }

    /// What `cancel` was given.
    pub(crate) fn cancel_message<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let message = self.inner.with(py, |inner| {
            inner.rare.as_ref().and_then(|rare| rare.cancel_message.as_ref().map(|message| message.clone_ref(py)))
        });
        message.map(|message| message.into_bound(py))
    }

    /// The error that stands for the cancellation: the one that ended a task, if it has not been given out before.
    pub(crate) fn make_cancelled_error<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let is_cancelled = self.state(py) == State::Cancelled;
        let error = self.inner.with(py, |inner| if is_cancelled { inner.value.take() } else { None });
        match (error, self.cancel_message(py)) {
            (Some(error), _) => Ok(error.into_bound(py)),
            (None, Some(message)) => asyncio::cancelled_error::class(py)?.call1((message,)),
            (None, None) => asyncio::cancelled_error::class(py)?.call0(),
        }
    }

    /// Has `callback` told when the future is done; at once, through the loop, if it is.
    pub(crate) fn add_callback(this: &Bound<'_, Self>, callback: Callback) -> PyResult<()> {
        let py = this.py();
        if this.get().is_pending(py) {
            this.get().inner.with(py, |inner| inner.callbacks.push(callback));
            return Ok(());
        }
        let loop_ref = Self::checked_loop(this)?;
        Self::queue(this, loop_ref, callback)
    }

    /// Has `owner`, which was to be told, not told. One that is due is told anyhow.
    pub(crate) fn forget(&self, owner: &Bound<'_, PyAny>) {
        let py = owner.py();
        if self.is_pending(py) {
            drop(self.inner.with(py, |inner| inner.callbacks.take_first(|callback| callback.notifies(owner))));
        }
    }

    /// Ends the edge of the call graph that came with `owner`, which is told nevertheless.
    pub(crate) fn forget_awaiter(&self, owner: &Bound<'_, PyAny>) {
        let awaiter = self.inner.with(owner.py(), |inner| {
            let mut callbacks = inner.callbacks.iter_mut();
            callbacks.find(|callback| callback.notifies(owner)).and_then(|callback| match callback {
                Callback::Notify(notify) => notify.take_awaiter(),
                _ => None,
            })
        });
        drop(awaiter);
    }

    /// Queues every callback.
    #[inline]
    fn schedule(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let callbacks = this.get().inner.with(py, |inner| std::mem::take(&mut inner.callbacks));
        if let Callbacks::None = callbacks {
            return Ok(());
        }
        let loop_ref = Self::checked_loop(this)?;
        match callbacks {
            Callbacks::None => Ok(()),
            Callbacks::One(callback) => Self::queue(this, loop_ref, callback),
            Callbacks::Many(callbacks) => {
                (*callbacks).into_iter().try_for_each(|callback| Self::queue(this, loop_ref, callback))
            }
        }
    }

    fn queue(this: &Bound<'_, Self>, loop_ref: &LoopRef, callback: Callback) -> PyResult<()> {
        let py = this.py();
        match (loop_ref, callback) {
            (LoopRef::Ours(core), Callback::Wake(waiter)) => {
                core.get().admit(py)?;
                core.get().push(py, waiter.into_runnable());
            }
            (LoopRef::Ours(core), Callback::Notify(notify)) => {
                core.get().admit(py)?;
                this.get().inner.with(py, |inner| inner.callbacks.push(Callback::Notify(notify)));
                core.get().push(py, runnable::<RunNotify>(this.clone().unbind()));
            }
            (LoopRef::Foreign(foreign), Callback::Notify(notify)) => {
                let callable = notify.into_callable(py)?;
                LoopRef::call_soon(foreign.bind(py), &callable, Some(this.as_any()), None)?;
            }
            (LoopRef::Ours(core), Callback::Call(callable, context)) => {
                core.get().admit(py)?;
                let argument = Arguments::One(this.clone().into_any().unbind());
                let handle = Handle::create_in(core.bind(py), callable, argument, context)?;
                core.get().push(py, runnable::<RunHandle>(handle.unbind()));
            }
            (LoopRef::Foreign(foreign), Callback::Call(callable, context)) => {
                let known = context.make(py)?;
                context.dispose(py);
                LoopRef::call_soon(foreign.bind(py), callable.bind(py), Some(this.as_any()), Some(&known))?;
            }
            (LoopRef::Foreign(_), Callback::Wake(_)) => {
                debug_assert!(false, "a task waits by itself only for a future of its own, native loop");
            }
        }
        Ok(())
    }

    pub(super) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(loop_ref) = self.loop_ref.get_in_traverse(&visit) {
            loop_ref.traverse(visit)?;
        }
        self.inner.traverse(visit, |inner, visit| {
            inner.callbacks.traverse(visit)?;
            visit.call(&inner.value)?;
            let Some(rare) = &inner.rare else { return Ok(()) };
            visit.call(&rare.cancel_message)?;
            visit.call(&rare.exception_traceback)?;
            visit.call(&rare.source_traceback)?;
            rare.awaited_by.iter().try_for_each(|awaiters| awaiters.traverse(visit))
        })
    }
}

/// asyncio's `InvalidStateError`.
#[cold]
pub(crate) fn invalid_state(py: Python<'_>, text: &'static str) -> PyErr {
    asyncio::invalid_state_error::new_err(py, text)
}
