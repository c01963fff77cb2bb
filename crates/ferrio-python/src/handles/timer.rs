//! `TimerHandle`: a callback that waits for its time.

use ferrio::engine::{Flow, TimerKey};
use pyo3::basic::CompareOp;
use pyo3::exceptions::PyTypeError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat, PyTuple, PyType};
use pyo3::{PyTraverseError, intern};

use super::given::Given;
use super::handle::{Handle, RunHandle};
use super::work::Arguments;
use crate::asyncio;
use crate::ffi::cell::{GilCopy, GilOnce};
use crate::ffi::pool::{self, Pool, Pooled};
use crate::ffi::runnable::Job;
use crate::loop_ref::{LoopCore, LoopRef};

/// A callback that waits for its time, as `asyncio.TimerHandle`.
#[pyclass(frozen, extends = Handle, subclass, module = "ferrio")]
pub(crate) struct TimerHandle {
    /// Seconds on the loop's clock, as it was asked for. Not a number before a subclass's `__init__` has called ours.
    when: GilCopy<f64>,
    /// The same as it was given, where that was no float.
    given: GilOnce<Py<PyAny>>,
    key: GilCopy<Option<TimerKey>>,
    /// What a loop of another make says of the timer.
    scheduled: GilCopy<bool>,
}

impl TimerHandle {
    /// Makes the handle; the loop sets its timer, and says which with [`set_key`](Self::set_key).
    ///
    /// Budget: as [`Handle::create`].
    #[inline]
    pub(crate) fn create<'py>(
        core: &Bound<'py, LoopCore>,
        callback: Py<PyAny>,
        arguments: Arguments,
        context: Option<Py<PyAny>>,
        when: f64,
        given: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, Self>> {
        pool::make_derived(core.py(), Handle::ours(core, callback, arguments, context)?, Self::at(when, given))
    }

    fn at(when: f64, given: Option<Py<PyAny>>) -> Self {
        let given = given.map_or_else(GilOnce::empty, GilOnce::new);
        Self { when: GilCopy::new(when), given, key: GilCopy::new(None), scheduled: GilCopy::new(false) }
    }

    pub(crate) fn set_key(&self, py: Python<'_>, key: TimerKey) {
        self.key.set(py, Some(key));
    }

    /// Which is due first.
    pub(crate) fn order(slf: &Bound<'_, Self>, other: &Bound<'_, Self>) -> std::cmp::Ordering {
        slf.get().when.get(slf.py()).total_cmp(&other.get().when.get(slf.py()))
    }

    fn same_work(slf: &Bound<'_, Self>, other: &Bound<'_, Self>) -> PyResult<bool> {
        let py = slf.py();
        if slf.is(other) {
            return Ok(true);
        }
        let (a, b) = (slf.as_super().get(), other.as_super().get());
        Ok(slf.get().when.get(py) == other.get().when.get(py)
            && a._callback(py).into_pyobject(py)?.eq(b._callback(py))?
            && a._args(py)?.into_pyobject(py)?.eq(b._args(py)?)?
            && a.is_cancelled(py) == b.is_cancelled(py))
    }
}

/// A time as it was given, if it is no float.
#[inline]
pub(crate) fn unless_float(when: &Bound<'_, PyAny>) -> Option<Py<PyAny>> {
    (!when.is_exact_instance_of::<PyFloat>()).then(|| when.clone().unbind())
}

#[pymethods]
impl TimerHandle {
    #[new]
    #[classmethod]
    #[pyo3(signature = (*args, **kwargs), text_signature = "(when, callback, args, loop, context=None)")]
    fn __new__(
        cls: &Bound<'_, PyType>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<PyClassInitializer<Self>> {
        let py = cls.py();
        if !cls.is(py.get_type::<Self>()) {
            return Ok(PyClassInitializer::from(Handle::unmade()).add_subclass(Self::at(f64::NAN, None)));
        }
        let given = Given::new(args, kwargs, true)?;
        let when = given.when.clone().unwrap_or_else(|| py.None().into_bound(py));
        let seconds = when.extract()?;
        let handle = Handle::of(py, given)?;
        Ok(PyClassInitializer::from(handle).add_subclass(Self::at(seconds, unless_float(&when))))
    }

    /// For subclasses, whose `__new__` is given the arguments of their own `__init__`, whatever these are.
    #[pyo3(signature = (*args, **kwargs))]
    fn __init__(slf: &Bound<'_, Self>, args: &Bound<'_, PyTuple>, kwargs: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
        let py = slf.py();
        if slf.is_exact_instance_of::<Self>() {
            return Ok(());
        }
        let given = Given::new(args, kwargs, true)?;
        let (timer, handle) = (slf.get(), slf.as_super().get());
        let when = given.when.clone().unwrap_or_else(|| py.None().into_bound(py));
        if handle.made(py).is_ok() {
            if !timer.when(py).eq(&when)? {
                return Err(PyTypeError::new_err("a timer keeps its time"));
            }
            return handle.initialize(py, given);
        }
        let seconds = when.extract()?;
        handle.initialize(py, given)?;
        timer.when.set(py, seconds);
        if let Some(when) = unless_float(&when) {
            // One is there if the loop's `get_debug`, which that calls, has called `__init__` as well.
            drop(timer.given.set(py, when));
        }
        Ok(())
    }

    /// Takes the callback back and its timer out of the loop; nothing that it holds is kept.
    fn cancel(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let handle = slf.as_super().get();
        handle.made(py)?;
        if !Handle::cancel_once(slf.as_any(), handle)? {
            return Ok(());
        }
        match handle.made(py)? {
            LoopRef::Ours(core) => {
                let key = slf.get().key.replace(py, None);
                // The reference that the loop had is dropped here, outside of the engine.
                drop(key.and_then(|key| core.get().engine(py).cancel_timer(key)));
                Ok(())
            }
            LoopRef::Foreign(foreign) => {
                foreign.bind(py).call_method1(intern!(py, "_timer_handle_cancelled"), (slf,)).map(drop)
            }
        }
    }

    /// When the callback is due, in seconds on the loop's clock.
    fn when<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        match self.given.get(py) {
            Some(given) => given.bind(py).clone(),
            None => PyFloat::new(py, self.when.get(py)).into_any(),
        }
    }

    #[getter]
    fn _when<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.when(py)
    }

    /// Whether the timer is pending.
    #[getter(_scheduled)]
    fn get_scheduled(&self, py: Python<'_>) -> bool {
        self.key.get(py).is_some() || self.scheduled.get(py)
    }

    #[setter(_scheduled)]
    fn set_scheduled(&self, py: Python<'_>, scheduled: bool) {
        self.scheduled.set(py, scheduled);
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        Handle::describe(slf.as_any(), slf.as_super().get(), Some(slf.get().when(slf.py())))
    }

    #[getter]
    fn __class__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        if slf.is_exact_instance_of::<Self>() {
            return asyncio::timer_handle_class(py).cloned();
        }
        Ok(slf.get_type().into_any())
    }

    fn __hash__(&self, py: Python<'_>) -> PyResult<isize> {
        self.when.get(py).into_pyobject(py)?.hash()
    }

    fn __richcmp__<'py>(
        slf: &Bound<'py, Self>,
        other: &Bound<'py, PyAny>,
        operation: CompareOp,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let Ok(other) = other.cast::<Self>() else { return Ok(py.NotImplemented().into_bound(py)) };
        let order = Self::order(slf, other);
        let answer = match operation {
            CompareOp::Lt => order.is_lt(),
            CompareOp::Gt => order.is_gt(),
            CompareOp::Le => order.is_lt() || Self::same_work(slf, other)?,
            CompareOp::Ge => order.is_gt() || Self::same_work(slf, other)?,
            CompareOp::Eq => Self::same_work(slf, other)?,
            CompareOp::Ne => !Self::same_work(slf, other)?,
        };
        Ok(answer.into_pyobject(py)?.to_owned().into_any())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.given.get_in_traverse(&visit).map_or(Ok(()), |given| visit.call(given))
    }
}

impl Pooled for TimerHandle {
    type Base = Handle;

    fn pool() -> &'static Pool {
        static POOL: Pool = Pool::new();
        &POOL
    }

    fn dispose(self, py: Python<'_>) {
        if let Some(given) = self.given.into_inner() {
            drop(given.into_bound(py));
        }
    }
}

/// A timer's handle in the engine.
pub(crate) struct RunTimer;

impl Job for RunTimer {
    type Class = TimerHandle;

    fn run(this: &Bound<'_, TimerHandle>) -> Flow {
        this.get().key.set(this.py(), None);
        RunHandle::run(this.as_super())
    }
}
