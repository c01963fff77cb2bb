//! `Semaphore` and `BoundedSemaphore`.

use std::cmp::Ordering;

use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat, PyInt, PyTuple};
use pyo3::{Borrowed, FromPyObject, PyTraverseError, intern};

use super::line::{Line, line_attributes};
use super::repr::describe;
use super::scope::{EnterByMethod, ExitByMethod, acquired};
use super::waiters::wake;
use crate::asyncio::cancelled_error;
use crate::classes::{copied, stands_for};
use crate::coroutine::{Coroutine, Frame, Next, Outcome};
use crate::ffi::async_function::AsyncFunction;
use crate::ffi::cell::GilCopy;
use crate::ffi::method::CallArguments;
use crate::ffi::newborn;
use crate::futures::{Future, State};

/// So many permits, each to be had by one at a time.
///
/// A program may count in anything that is a number: what is no whole one, or too large, is counted as a float.
#[derive(Clone, Copy)]
enum Permits {
    Whole(i64),
    Real(f64),
}

impl Permits {
    /// # Errors
    ///
    /// `TypeError` if `value` is no number.
    fn new(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        if value.is_instance_of::<PyInt>()
            && let Ok(count) = value.extract()
        {
            return Ok(Self::Whole(count));
        }
        match value.extract::<f64>() {
            Err(error) if error.is_instance_of::<PyOverflowError>(value.py()) => {
                Ok(Self::Real(if value.gt(0)? { f64::INFINITY } else { f64::NEG_INFINITY }))
            }
            count => count.map(Self::Real),
        }
    }

    fn plus(self, count: i64) -> Self {
        match self {
            Self::Whole(value) => match value.checked_add(count) {
                Some(sum) => Self::Whole(sum),
                None => Self::Real(value as f64 + count as f64),
            },
            Self::Real(value) => Self::Real(value + count as f64),
        }
    }

    fn to_object(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        Ok(match self {
            Self::Whole(value) => value.into_pyobject(py)?.into_any(),
            Self::Real(value) => PyFloat::new(py, value).into_any(),
        })
    }
}

impl<'py> FromPyObject<'_, 'py> for Permits {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        Self::new(&object)
    }
}

impl PartialEq for Permits {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.partial_cmp(other) == Some(Ordering::Equal)
    }
}

impl PartialOrd for Permits {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        let real = |permits: &Self| match *permits {
            Self::Whole(value) => value as f64,
            Self::Real(value) => value,
        };
        match (self, other) {
            (Self::Whole(own), Self::Whole(other)) => Some(own.cmp(other)),
            _ => real(self).partial_cmp(&real(other)),
        }
    }
}

/// A number of permits, `value` at first, that tasks take and give back. It is fair: who waits longest gets the next.
#[pyclass(frozen, subclass, dict, weakref, module = "ferrio")]
pub(crate) struct Semaphore {
    line: Line,
    value: GilCopy<Permits>,
}

impl Semaphore {
    fn with_one() -> Self {
        Self { line: Line::default(), value: GilCopy::new(Permits::Whole(1)) }
    }

    fn initialize(&self, py: Python<'_>, value: Permits) -> PyResult<()> {
        if value < Permits::Whole(0) {
            return Err(PyValueError::new_err("Semaphore initial value must be >= 0"));
        }
        self.value.set(py, value);
        self.line.reset(py);
        Ok(())
    }

    #[inline]
    fn add(&self, py: Python<'_>, count: i64) {
        self.value.set(py, self.value.get(py).plus(count));
    }

    /// Whether who comes now must wait: there is nothing left, or others were before.
    #[inline]
    fn is_locked(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.value.get(py) == Permits::Whole(0) || self.line.waiters.any_not_cancelled(py)?)
    }

    /// As a subclass has it.
    fn is_locked_to(this: &Bound<'_, Self>) -> PyResult<bool> {
        let py = this.py();
        if this.is_exact_instance_of::<Self>() || this.is_exact_instance_of::<BoundedSemaphore>() {
            return this.get().is_locked(py);
        }
        this.call_method0(intern!(py, "locked"))?.is_truthy()
    }

    /// Gives a permit to the first in line; false if there is nobody.
    fn wake_next(&self, py: Python<'_>) -> PyResult<bool> {
        let Some(first) = self.line.waiters.first_pending(py)? else { return Ok(false) };
        self.add(py, -1);
        wake(&first, true.into_pyobject(py)?.to_owned().into_any())
    }

    fn give_back(&self, py: Python<'_>) -> PyResult<()> {
        self.add(py, 1);
        self.wake_next(py).map(drop)
    }
}

#[pymethods]
impl Semaphore {
    #[new]
    #[pyo3(signature = (*args, **_kwargs), text_signature = "(value=1)")]
    fn __new__(args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        newborn::has_dict(args.py());
        Self::with_one()
    }

    /// A semaphore of `value` permits.
    ///
    /// Raises ValueError if that is less than none.
    #[pyo3(signature = (value=Permits::Whole(1)))]
    fn __init__(slf: &Bound<'_, Self>, value: Permits) -> PyResult<()> {
        slf.get().initialize(slf.py(), value)
    }

    /// Whether who comes now must wait.
    fn locked(&self, py: Python<'_>) -> PyResult<bool> {
        self.is_locked(py)
    }

    /// Gives a permit back, to the next in line.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        self.give_back(py)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let (py, semaphore) = (slf.py(), slf.get());
        let state = match Self::is_locked_to(slf)? {
            true => "locked".to_owned(),
            false => format!("unlocked, value:{}", semaphore.value.get(py).to_object(py)?),
        };
        describe(slf, &state, semaphore.line.waiters.len(py)?)
    }

    #[getter(_value)]
    fn get_value<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.value.get(py).to_object(py)
    }

    #[setter(_value)]
    fn set_value(&self, py: Python<'_>, value: Permits) {
        self.value.set(py, value);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.line.traverse(visit)
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        slf.get().line.clear(slf.py());
    }
}

line_attributes!(Semaphore, deque_if_used -> Option<Bound<'py, PyAny>>);
copied!(Semaphore, ["_value", "_waiters", "_loop"]);
stands_for!(Semaphore, semaphore_class);

/// A semaphore that is never given back more permits than it began with.
#[pyclass(frozen, extends = Semaphore, subclass, module = "ferrio")]
pub(crate) struct BoundedSemaphore {
    bound_value: GilCopy<Permits>,
}

impl BoundedSemaphore {
    /// # Errors
    ///
    /// `ValueError` if every permit is there.
    fn give_back(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let semaphore = this.as_super().get();
        let (value, bound) = (semaphore.value.get(py), this.get().bound_value.get(py));
        // Of as many as infinity, what is given back cannot be told from what was never taken.
        if value >= bound && bound.plus(-1) != bound {
            return Err(PyValueError::new_err("BoundedSemaphore released too many times"));
        }
        semaphore.give_back(py)
    }
}

#[pymethods]
impl BoundedSemaphore {
    #[new]
    #[pyo3(signature = (*args, **_kwargs), text_signature = "(value=1)")]
    fn __new__(args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> PyClassInitializer<Self> {
        newborn::has_dict(args.py());
        PyClassInitializer::from(Semaphore::with_one())
            .add_subclass(Self { bound_value: GilCopy::new(Permits::Whole(1)) })
    }

    /// A semaphore of `value` permits.
    ///
    /// Raises ValueError if that is less than none.
    #[pyo3(signature = (value=Permits::Whole(1)))]
    fn __init__(slf: &Bound<'_, Self>, value: Permits) -> PyResult<()> {
        let py = slf.py();
        slf.as_super().get().initialize(py, value)?;
        slf.get().bound_value.set(py, slf.as_super().get().value.get(py));
        Ok(())
    }

    /// Gives a permit back, to the next in line.
    ///
    /// Raises ValueError if every permit is there.
    fn release(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::give_back(slf)
    }

    #[getter(_bound_value)]
    fn get_bound_value<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.bound_value.get(py).to_object(py)
    }

    #[setter(_bound_value)]
    fn set_bound_value(&self, py: Python<'_>, value: Permits) {
        self.bound_value.set(py, value);
    }
}

copied!(BoundedSemaphore, ["_value", "_bound_value", "_waiters", "_loop"]);
stands_for!(BoundedSemaphore, bounded_semaphore_class);

/// Taking a permit. Returns True, or None to an `async with`.
struct Acquire {
    semaphore: Py<Semaphore>,
    waiter: Option<Py<Future>>,
    enters: bool,
}

impl Acquire {
    fn new(semaphore: Borrowed<'_, '_, Semaphore>, enters: bool) -> Self {
        Self { semaphore: semaphore.to_owned().unbind(), waiter: None, enters }
    }

    fn wait<'py>(&mut self, py: Python<'py>) -> PyResult<Next<'py>> {
        let semaphore = self.semaphore.bind(py);
        let waiter = semaphore.get().line.join(semaphore)?;
        self.waiter = Some(waiter.clone().unbind());
        Ok(Next::Await(waiter.into_any()))
    }
}

impl Frame for Acquire {
    #[inline]
    fn step<'py>(&mut self, py: Python<'py>, outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        let Some(waiter) = self.waiter.take() else {
            let this = self.semaphore.bind(py);
            if Semaphore::is_locked_to(this)? {
                return self.wait(py);
            }
            this.get().add(py, -1);
            return acquired(py, self.enters);
        };
        let (semaphore, waiter) = (self.semaphore.get(), waiter.into_bound(py));
        semaphore.line.waiters.remove(&waiter)?;
        if let Err(error) = &outcome
            && cancelled_error::is(error.value(py))
            && matches!(waiter.get().state(py), State::Returned | State::Raised)
        {
            // The permit that we were given goes back.
            semaphore.add(py, 1);
        }
        // Who came while we were on our way had to wait for us, permits or not.
        while semaphore.value.get(py) > Permits::Whole(0) && semaphore.wake_next(py)? {}
        outcome?;
        acquired(py, self.enters)
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.semaphore)?;
        visit.call(&self.waiter)
    }
}

/// The end of an `async with semaphore`.
struct Release(Py<Semaphore>);

impl Frame for Release {
    #[inline]
    fn step<'py>(&mut self, py: Python<'py>, _outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        match self.0.bind(py).cast_exact::<BoundedSemaphore>() {
            Ok(bounded) => BoundedSemaphore::give_back(bounded)?,
            Err(_) => self.0.get().give_back(py)?,
        }
        Ok(Next::Return(py.None().into_bound(py)))
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.0)
    }
}

/// Whether no method of it can be overridden.
#[inline]
fn is_plain(semaphore: Borrowed<'_, '_, Semaphore>) -> bool {
    semaphore.is_exact_instance_of::<Semaphore>() || semaphore.is_exact_instance_of::<BoundedSemaphore>()
}

/// `Semaphore.acquire`.
pub(super) struct SemaphoreAcquire;

impl AsyncFunction for SemaphoreAcquire {
    const NAME: &'static str = "Semaphore.acquire";

    const PARAMETERS: &'static str = "(self)";

    const DOC: &'static str = "Takes a permit, when there is one and whoever waited before has had one. Returns True.";

    #[inline]
    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let (semaphore, _) = arguments.method::<Semaphore, 1>(Self::NAME, ["self"])?;
        Coroutine::of(py, Self::NAME, Acquire::new(semaphore, false))
    }
}

/// `Semaphore.__aenter__`.
pub(super) struct SemaphoreEnter;

impl AsyncFunction for SemaphoreEnter {
    const NAME: &'static str = "Semaphore.__aenter__";

    const PARAMETERS: &'static str = "(self)";

    const DOC: &'static str = "Takes a permit.";

    #[inline]
    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let (semaphore, _) = arguments.method::<Semaphore, 1>(Self::NAME, ["self"])?;
        if is_plain(semaphore) {
            return Coroutine::of(py, Self::NAME, Acquire::new(semaphore, true));
        }
        Coroutine::of(py, Self::NAME, EnterByMethod::new(semaphore.as_any()))
    }
}

/// `Semaphore.__aexit__`.
pub(super) struct SemaphoreExit;

impl AsyncFunction for SemaphoreExit {
    const NAME: &'static str = "Semaphore.__aexit__";

    const PARAMETERS: &'static str = "(self, exc_type, exc, tb)";

    const DOC: &'static str = "Gives the permit back.";

    #[inline]
    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let (semaphore, _) = arguments.method::<Semaphore, 4>(Self::NAME, ["self", "exc_type", "exc", "tb"])?;
        if is_plain(semaphore) {
            return Coroutine::of(py, Self::NAME, Release(semaphore.to_owned().unbind()));
        }
        Coroutine::of(py, Self::NAME, ExitByMethod::new(semaphore.as_any()))
    }
}
