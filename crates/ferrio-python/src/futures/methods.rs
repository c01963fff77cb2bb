//! What Python sees of a future.

use ferrio::engine::Flow;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFrozenSet, PyList, PyString, PyTuple, PyType};
use pyo3::{PyTraverseError, intern};

use super::callbacks::Callback;
use super::future::{Future, NOT_INITIALIZED, State, invalid_state};
use super::iter::FutureIter;
use crate::asyncio;
use crate::ffi::await_slots::AwaitedByItself;
use crate::ffi::coroutine::Step;
use crate::ffi::finalizer::Finalize;
use crate::ffi::pool::{Pool, Pooled};
use crate::ffi::runnable::take_leaving;
use crate::ffi::{newborn, raise, stop_iteration};
use crate::loop_ref::{LoopRef, report_kept};

#[pymethods]
impl Future {
    #[new]
    #[classmethod]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(*, loop=None)")]
    fn __new__(cls: &Bound<'_, PyType>, _args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        newborn::has_dict(cls.py());
        Self::of_class(cls.is(cls.py().get_type::<Self>()))
    }

    /// A future of `loop`, or of the current loop.
    #[pyo3(signature = (*, r#loop=None))]
    fn __init__(slf: &Bound<'_, Self>, r#loop: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let py = slf.py();
        let loop_ref = match r#loop {
            Some(loop_object) => LoopRef::new(loop_object),
            None => LoopRef::new(&asyncio::get_event_loop(py)?.call0()?),
        };
        if slf.get().initialize(py, loop_ref)? {
            return Ok(());
        }
        let class = slf.get_type().name()?;
        Err(PyRuntimeError::new_err(format!("{class} object is already initialized")))
    }

    /// The result.
    ///
    /// Raises the exception that was set, CancelledError if the future was cancelled, InvalidStateError if it is not
    /// done.
    #[pyo3(name = "result")]
    fn result_method<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::check_has_state(slf)?;
        Self::result(slf)
    }

    /// The exception that was set, or None.
    ///
    /// Raises CancelledError if the future was cancelled, InvalidStateError if it is not done.
    fn exception<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = slf.py();
        Self::check_has_state(slf)?;
        match slf.get().state(py) {
            State::Pending => Err(invalid_state(py, "Exception is not set.")),
            State::Returned => Ok(None),
            State::Cancelled => Err(PyErr::from_value(slf.get().make_cancelled_error(py)?)),
            State::Raised => Self::failure(slf),
        }
    }

    /// Marks the future done with an exception, an instance or a class, and schedules its callbacks.
    ///
    /// Raises InvalidStateError if it is done, TypeError if it is not an exception.
    fn set_exception(slf: &Bound<'_, Self>, exception: Bound<'_, PyAny>) -> PyResult<()> {
        Self::check_initialized(slf)?;
        Self::reject(slf, exception)
    }

    /// Whether the future was cancelled.
    fn cancelled(&self, py: Python<'_>) -> bool {
        self.state(py) == State::Cancelled
    }

    /// The loop that the future belongs to.
    fn get_loop<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Ok(Self::checked_loop(slf)?.bind(slf.py()).clone())
    }

    /// A future is its own iterator, so that awaiting one allocates nothing: all that an iterator would remember,
    /// whether it was yielded, the future remembers anyhow.
    fn __await__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        Self::check_initialized(&slf)?;
        Ok(slf)
    }

    fn __iter__(slf: Bound<'_, Self>) -> PyResult<FutureIter> {
        Self::check_initialized(&slf)?;
        Ok(FutureIter::new(slf.unbind()))
    }

    pub(super) fn __next__<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match Self::advance(slf) {
            Step::Yielded(yielded) => Ok(Some(yielded)),
            Step::Returned(result) if result.is_none() => Ok(None),
            Step::Returned(result) => Err(stop_iteration::with_value(result)),
            Step::Raised(exception) => Err(exception.into()),
        }
    }

    /// What the interpreter calls where a coroutine that awaits the future is sent something, and not only resumed: who
    /// drives it by hand may do that. The value is dropped, as asyncio's iterator drops it.
    fn send<'py>(slf: &Bound<'py, Self>, _value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let none = || stop_iteration::with_value(slf.py().None().into_bound(slf.py()));
        Self::__next__(slf)?.ok_or_else(none)
    }

    fn __repr__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        asyncio::future_repr(slf.py())?.call1((slf,))
    }

    #[classmethod]
    fn __class_getitem__<'py>(cls: &Bound<'py, PyType>, item: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        asyncio::generic_alias(cls.py())?.call1((cls, item))
    }

    /// `asyncio.Future` for a plain future, so that `isinstance` says yes; a subclass answers for itself.
    #[getter]
    fn __class__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        if slf.is_exact_instance_of::<Self>() {
            return asyncio::future_class(slf.py()).cloned();
        }
        Ok(slf.get_type().into_any())
    }

    #[pyo3(name = "_make_cancelled_error")]
    fn make_cancelled_error_method<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.make_cancelled_error(py)
    }

    #[getter(_asyncio_future_blocking)]
    fn get_blocking(&self, py: Python<'_>) -> bool {
        self.blocking.get(py)
    }

    #[setter(_asyncio_future_blocking)]
    fn set_blocking(&self, blocking: &Bound<'_, PyAny>) -> PyResult<()> {
        self.blocking.set(blocking.py(), blocking.is_truthy()?);
        Ok(())
    }

    /// The futures and tasks that wait for this one, or None.
    #[getter]
    fn _asyncio_awaited_by<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyFrozenSet>>> {
        let mut waiters: Vec<_> = self.inner.with(py, |inner| {
            let awaiters = inner.callbacks.iter().filter_map(Callback::awaiter);
            awaiters.map(|awaiter| awaiter.clone_ref(py)).collect()
        });
        waiters.extend(self.recorded(py));
        if waiters.is_empty() { Ok(None) } else { PyFrozenSet::new(py, waiters).map(Some) }
    }

    #[getter]
    fn _loop<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.loop_ref(py).map(|loop_ref| loop_ref.bind(py).clone())
    }

    #[getter]
    fn _state<'py>(slf: &Bound<'py, Self>) -> PyResult<&'py Bound<'py, PyString>> {
        let py = slf.py();
        Self::check_initialized(slf)?;
        Ok(match slf.get().state(py) {
            State::Pending => intern!(py, "PENDING"),
            State::Cancelled => intern!(py, "CANCELLED"),
            State::Returned | State::Raised => intern!(py, "FINISHED"),
        })
    }

    #[getter]
    fn _result(slf: &Bound<'_, Self>) -> PyResult<Option<Py<PyAny>>> {
        Self::check_initialized(slf)?;
        Ok(slf.get().value_if(slf.py(), State::Returned))
    }

    #[getter]
    fn _exception(slf: &Bound<'_, Self>) -> PyResult<Option<Py<PyAny>>> {
        Self::check_initialized(slf)?;
        Ok(slf.get().value_if(slf.py(), State::Raised))
    }

    #[getter]
    fn _callbacks<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyList>>> {
        let py = slf.py();
        Self::check_initialized(slf)?;
        Self::show_contexts(slf)?;
        let callbacks: Vec<_> =
            slf.get().inner.with(py, |inner| inner.callbacks.iter().map(|callback| callback.clone_ref(py)).collect());
        // A future that is done has none; what it keeps is due.
        if callbacks.is_empty() || !slf.get().is_pending(py) {
            return Ok(None);
        }
        let pairs = callbacks.into_iter().map(|callback| match callback {
            Callback::Call(callable, context) => PyTuple::new(py, [callable.into_bound(py), context.make(py)?]),
            Callback::Notify(notify) => PyTuple::new(py, [notify.into_callable(py)?, py.None().into_bound(py)]),
            Callback::Wake(waiter) => crate::tasks::wakeup_pair(waiter.object().bind(py)),
        });
        PyList::new(py, pairs.collect::<PyResult<Vec<_>>>()?).map(Some)
    }

    #[getter]
    fn _source_traceback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.inner.with(py, |inner| {
            inner.rare.as_ref().and_then(|rare| rare.source_traceback.as_ref().map(|stack| stack.clone_ref(py)))
        })
    }

    #[getter(_cancel_message)]
    fn get_cancel_message(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.cancel_message(py).map(Bound::unbind)
    }

    #[setter(_cancel_message)]
    fn put_cancel_message(&self, py: Python<'_>, message: Option<Bound<'_, PyAny>>) {
        self.set_cancel_message(py, message);
    }

    #[getter(_log_traceback)]
    fn get_log_traceback(&self, py: Python<'_>) -> bool {
        self.log_traceback.get(py)
    }

    #[setter(_log_traceback)]
    fn set_log_traceback(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        if value.is_truthy()? {
            return Err(PyValueError::new_err("_log_traceback can only be set to False"));
        }
        self.log_traceback.set(value.py(), false);
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.traverse(visit)
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        drop(slf.get().inner.take(slf.py()));
    }
}

impl Future {
    /// # Errors
    ///
    /// `InvalidStateError` if a subclass has not called `__init__`.
    #[inline]
    fn check_has_state(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        if this.get().loop_ref(py).is_some() { Ok(()) } else { Err(invalid_state(py, NOT_INITIALIZED)) }
    }

    fn value_if(&self, py: Python<'_>, state: State) -> Option<Py<PyAny>> {
        if self.state(py) != state {
            return None;
        }
        self.inner.with(py, |inner| inner.value.as_ref().map(|value| value.clone_ref(py)))
    }

    /// Reports an exception that nobody fetched.
    pub(crate) fn finalize_future(this: &Bound<'_, Self>) {
        let py = this.py();
        if !this.get().log_traceback.replace(py, false) {
            return;
        }
        let Some(loop_ref) = this.get().loop_ref(py).map(|loop_ref| loop_ref.clone_ref(py)) else { return };
        let class = this.get_type().name().map_or_else(|_| "Future".to_owned(), |name| name.to_string());
        let message = PyString::new(py, &format!("{class} exception was never retrieved"));
        let exception = this.get().value_if(py, State::Raised);
        let mut entries = vec![("message", message.into_any())];
        entries.extend(exception.map(|exception| ("exception", exception.into_bound(py))));
        entries.push(("future", this.clone().into_any()));
        if let Some(stack) = this.get()._source_traceback(py) {
            entries.push(("source_traceback", stack.into_bound(py)));
        }
        if report_kept(loop_ref.bind(py), &entries) == Flow::Break
            && let Some(error) = take_leaving()
        {
            error.write_unraisable(py, Some(this));
        }
    }
}

impl AwaitedByItself for Future {
    #[inline]
    fn check(this: &Bound<'_, Self>) -> PyResult<()> {
        Self::check_initialized(this)
    }

    #[inline]
    fn advance<'py>(this: &Bound<'py, Self>) -> Step<'py> {
        let py = this.py();
        let future = this.get();
        if !future.is_pending(py) {
            return match Self::failure(this) {
                Ok(Some(exception)) => Step::Raised(raise::in_context(raise::exception(exception))),
                Ok(None) => Step::Returned(future.value(py)),
                Err(error) => Step::failed(py, error),
            };
        }
        if future.blocking.replace(py, true) {
            return Step::failed(py, PyRuntimeError::new_err("await wasn't used with future"));
        }
        Step::Yielded(this.clone().into_any())
    }
}

impl Finalize for Future {
    fn finalize(object: &Bound<'_, Self>) {
        Self::finalize_future(object);
    }
}

impl Pooled for Future {
    type Base = ();

    fn pool() -> &'static Pool {
        static POOL: Pool = Pool::new();
        &POOL
    }

    fn dispose(self, py: Python<'_>) {
        self.dispose_future(py);
    }

    fn is_last_word_due(object: &Bound<'_, Self>) -> bool {
        object.get().log_traceback.get(object.py())
    }
}
