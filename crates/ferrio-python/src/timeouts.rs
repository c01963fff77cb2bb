//! `timeout`, `timeout_at` and the scope they open.
//!
//! The deadline is a timer of the engine on the scope itself: neither a handle nor a bound method is made. When it comes
//! the task is cancelled, and the CancelledError that arrives at the scope's end becomes a TimeoutError, there and
//! nowhere else: only if every request to cancel since the scope was entered is the scope's own.
//!
//! # Budget of a scope that does not expire
//!
//! The scope and a coroutine for each of its two ends, all three from pools; one push to the timers' heap and one
//! cancellation.

use ferrio::engine::Flow;
use pyo3::exceptions::{PyBaseExceptionGroup, PyRuntimeError, PyTimeoutError, PyTypeError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat, PyString, PyTuple, PyType};
use pyo3::{Borrowed, FromPyObject, PyTraverseError, intern};

use crate::asyncio;
use crate::classes::stands_for;
use crate::coroutine::{Coroutine, Frame, Next, Outcome};
use crate::ffi::async_function::{self, AsyncFunction};
use crate::ffi::cell::{GilCell, GilCopy};
use crate::ffi::method::CallArguments;
use crate::ffi::newborn;
use crate::ffi::number::to_f64;
use crate::ffi::pool::{self, Pool, Pooled};
use crate::ffi::runnable::{Job, leave, runnable};
use crate::handles::unless_float;
use crate::loop_ref::{Due, LoopRef, Timer, report};
use crate::tasks::{cancellation, running_task};

/// Adds what the module exports.
pub(crate) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    pool::install::<Timeout>(py);
    let class = py.get_type::<Timeout>();
    async_function::install::<Enter>(&class)?;
    async_function::install::<Exit>(&class)?;
    module.add_class::<Timeout>()?;
    module.add_function(wrap_pyfunction!(timeout, module)?)?;
    module.add_function(wrap_pyfunction!(timeout_at, module)?)
}

/// A scope that ends with TimeoutError if it is not left after `delay` seconds; never, if that is None (asyncio 3.11).
///
/// Raises RuntimeError if no loop runs.
#[pyfunction]
fn timeout(py: Python<'_>, delay: Option<&Bound<'_, PyAny>>) -> PyResult<Timeout> {
    let loop_ref = LoopRef::running(py)?;
    let when = delay.map(|delay| Ok::<_, PyErr>(loop_ref.time(py)? + to_f64(delay)?)).transpose()?;
    Ok(Timeout::new(when))
}

/// A scope that ends with TimeoutError if it is not left at `when`, in seconds on the loop's clock; never, if that is
/// None (asyncio 3.11).
#[pyfunction]
fn timeout_at(py: Python<'_>, when: Option<Deadline>) -> Timeout {
    let scope = Timeout::new(None);
    scope.put_deadline(py, when);
    scope
}

/// A time on the loop's clock, in seconds.
struct Deadline {
    when: f64,
    /// As it was given, where that was no float.
    given: Option<Py<PyAny>>,
}

impl<'py> FromPyObject<'_, 'py> for Deadline {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        Ok(Self { when: object.extract()?, given: unless_float(&object) })
    }
}

/// Where a scope stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Created,
    Entered,
    /// The deadline has come and the task was cancelled; the scope has not been left yet.
    Expiring,
    Expired,
    /// Left in time.
    Exited,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Entered => "active",
            Self::Expiring => "expiring",
            Self::Expired => "expired",
            Self::Exited => "finished",
        }
    }
}

/// A scope with a deadline, as `asyncio.Timeout`; made by timeout() and timeout_at().
#[pyclass(frozen, subclass, weakref, dict, module = "ferrio")]
pub(crate) struct Timeout {
    state: GilCopy<State>,
    /// Seconds on the loop's clock.
    when: GilCopy<Option<f64>>,
    /// How many requests to cancel the task had when it entered.
    cancelling: GilCopy<i64>,
    /// How many times the scope is in the loop's ready queue, for a deadline that was over when it was set.
    queued: GilCopy<u32>,
    inner: GilCell<Inner>,
}

#[derive(Default)]
struct Inner {
    task: Option<Py<PyAny>>,
    alarm: Option<Alarm>,
    /// The deadline as it was given, where that was no float.
    given: Option<Py<PyAny>>,
}

/// What will come when the deadline does.
enum Alarm {
    Timer(Timer),
    /// The scope's last place in the ready queue.
    Queued,
}

impl Alarm {
    fn cancel(self, py: Python<'_>) -> PyResult<()> {
        match self {
            Self::Timer(timer) => timer.cancel(py),
            Self::Queued => Ok(()),
        }
    }
}

impl Timeout {
    pub(crate) fn new(when: Option<f64>) -> Self {
        Self {
            state: GilCopy::new(State::Created),
            when: GilCopy::new(when),
            cancelling: GilCopy::new(0),
            queued: GilCopy::new(0),
            inner: GilCell::default(),
        }
    }

    /// Begins the scope in the task that runs. Runs Python code for a task or loop of another make.
    pub(crate) fn enter(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let scope = this.get();
        if scope.state.get(py) != State::Created {
            return Err(PyRuntimeError::new_err("Timeout has already been entered"));
        }
        let loop_ref = LoopRef::running(py)?;
        let Some(task) = running_task(loop_ref.bind(py))? else {
            return Err(PyRuntimeError::new_err("Timeout should be used inside a task"));
        };
        scope.cancelling.set(py, cancellation::cancelling(&task)?);
        scope.state.set(py, State::Entered);
        let previous = scope.inner.with(py, |inner| inner.task.replace(task.unbind()));
        drop(previous);
        if this.is_exact_instance_of::<Self>() {
            return Self::set_alarm(this, &loop_ref);
        }
        // A subclass may have its own.
        this.call_method1(intern!(py, "reschedule"), (scope.deadline(py),)).map(drop)
    }

    /// The deadline, as it was given.
    fn deadline<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let when = self.when.get(py)?;
        let given = self.inner.with(py, |inner| inner.given.as_ref().map(|given| given.clone_ref(py)));
        Some(given.map_or_else(|| PyFloat::new(py, when).into_any(), |given| given.into_bound(py)))
    }

    fn put_deadline(&self, py: Python<'_>, deadline: Option<Deadline>) {
        let (when, given) = deadline.map_or((None, None), |deadline| (Some(deadline.when), deadline.given));
        self.when.set(py, when);
        drop(self.inner.with(py, |inner| std::mem::replace(&mut inner.given, given)));
    }

    /// Ends the scope, which is left with `failure` or without.
    ///
    /// # Errors
    ///
    /// `TimeoutError` in the place of a `CancelledError` that is the scope's own.
    pub(crate) fn exit(this: &Bound<'_, Self>, failure: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let py = this.py();
        let scope = this.get();
        let (task, alarm) = scope.inner.with(py, |inner| (inner.task.take(), inner.alarm.take()));
        if let Some(alarm) = alarm {
            alarm.cancel(py)?;
        }
        match (scope.state.get(py), task) {
            (State::Entered, _) => scope.state.set(py, State::Exited),
            (State::Expiring, Some(task)) => {
                scope.state.set(py, State::Expired);
                if cancellation::uncancel(task.bind(py))? <= scope.cancelling.get(py)
                    && let Some(failure) = failure
                {
                    return time_out(failure);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn set_alarm<'py>(this: &Bound<'py, Self>, loop_ref: &LoopRef) -> PyResult<()> {
        let py = this.py();
        let Some(when) = this.get().when.get(py) else { return Ok(()) };
        let alarm = if when > loop_ref.time(py)? {
            let on_timeout = |_| Ok((this.getattr(intern!(py, "_on_timeout"))?, Vec::new()));
            Alarm::Timer(loop_ref.set_timer::<Expire>(this, Due::At(when), on_timeout)?)
        } else if let Some(core) = loop_ref.ours() {
            core.admit(py)?;
            this.get().queued.set(py, this.get().queued.get(py) + 1);
            core.push(py, runnable::<ExpireNow>(this.clone().unbind()));
            Alarm::Queued
        } else {
            let on_timeout = this.getattr(intern!(py, "_on_timeout"))?;
            Alarm::Timer(Timer::foreign(LoopRef::call_soon(loop_ref.bind(py), &on_timeout, None, None)?))
        };
        let previous = this.get().inner.with(py, |inner| inner.alarm.replace(alarm));
        drop(previous);
        Ok(())
    }

    fn expire(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let scope = this.get();
        let (task, alarm) =
            scope.inner.with(py, |inner| (inner.task.as_ref().map(|task| task.clone_ref(py)), inner.alarm.take()));
        drop(alarm);
        match task {
            Some(task) if scope.state.get(py) == State::Entered => {
                cancellation::cancel(task.bind(py))?;
                scope.state.set(py, State::Expiring);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Expires for the loop.
    fn run(this: &Bound<'_, Self>) -> Flow {
        let py = this.py();
        let loop_object = match asyncio::get_running_loop_or_none(py).and_then(|running| running.call0()) {
            Ok(running) => running,
            Err(error) => return leave(error),
        };
        if let Some(core) = LoopRef::new(&loop_object).ours() {
            core.current().clear(&loop_object);
        }
        match Self::expire(this) {
            Ok(()) => Flow::Continue,
            Err(error) if asyncio::leaves_the_loop(py, &error) => leave(error),
            Err(error) => {
                let message = PyString::new(py, "Exception in callback Timeout._on_timeout()").into_any();
                let exception = error.into_value(py).into_bound(py).into_any();
                report(&loop_object, &[("message", message), ("exception", exception)])
            }
        }
    }
}

/// Raises TimeoutError for a scope that is left with its own cancellation; puts one into the history of any other
/// exception that the cancellation led to.
fn time_out(failure: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = failure.py();
    if asyncio::cancelled_error::is(failure) {
        let error = PyTimeoutError::new_err(());
        error.set_cause(py, Some(PyErr::from_value(failure.clone())));
        error.value(py).setattr(intern!(py, "__context__"), failure)?;
        return Err(error);
    }
    explain(failure)?;
    if failure.is_instance_of::<PyBaseExceptionGroup>() && failure.is_instance_of::<pyo3::exceptions::PyException>() {
        for error in failure.getattr(intern!(py, "exceptions"))?.cast::<PyTuple>()? {
            explain(&error)?;
        }
    }
    Ok(())
}

/// Puts a TimeoutError between the exception and the CancelledError in whose handling it was raised.
fn explain(error: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = error.py();
    let mut later = error.clone();
    loop {
        let earlier = later.getattr(intern!(py, "__context__"))?;
        if earlier.is_none() {
            return Ok(());
        }
        if asyncio::cancelled_error::is(&earlier) {
            let timeout = PyTimeoutError::new_err(());
            timeout.set_cause(py, Some(PyErr::from_value(earlier.clone())));
            timeout.value(py).setattr(intern!(py, "__context__"), &earlier)?;
            return later.setattr(intern!(py, "__context__"), timeout.value(py));
        }
        later = earlier;
    }
}

/// The deadline has come.
struct Expire;

impl Job for Expire {
    type Class = Timeout;

    fn run(scope: &Bound<'_, Timeout>) -> Flow {
        Timeout::run(scope)
    }
}

/// The deadline was over when it was set.
struct ExpireNow;

impl Job for ExpireNow {
    type Class = Timeout;

    fn run(scope: &Bound<'_, Timeout>) -> Flow {
        let py = scope.py();
        let left = scope.get().queued.get(py).saturating_sub(1);
        scope.get().queued.set(py, left);
        let is_due = scope.get().inner.with(py, |inner| matches!(inner.alarm, Some(Alarm::Queued)));
        if left == 0 && is_due { Timeout::run(scope) } else { Flow::Continue }
    }
}

#[pymethods]
impl Timeout {
    // What a subclass is called with is its own matter, until it calls `__init__`.
    #[new]
    #[pyo3(signature = (*args, **_kwargs), text_signature = "(when)")]
    fn __new__(args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        newborn::has_dict(args.py());
        Self::new(None)
    }

    fn __init__(&self, py: Python<'_>, when: Option<Deadline>) {
        self.state.set(py, State::Created);
        self.put_deadline(py, when);
    }

    /// The deadline in seconds on the loop's clock, or None.
    #[pyo3(name = "when")]
    fn when_method<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.deadline(py)
    }

    /// Moves the deadline to `when`, in seconds on the loop's clock, or takes it away.
    ///
    /// Raises RuntimeError if the scope has not been entered, has expired or was left.
    fn reschedule(slf: &Bound<'_, Self>, when: Option<Deadline>) -> PyResult<()> {
        let py = slf.py();
        match slf.get().state.get(py) {
            State::Entered => {}
            State::Created => return Err(PyRuntimeError::new_err("Timeout has not been entered")),
            other => {
                let text = format!("Cannot change state of {} Timeout", other.name());
                return Err(PyRuntimeError::new_err(text));
            }
        }
        slf.get().put_deadline(py, when);
        let alarm = slf.get().inner.with(py, |inner| inner.alarm.take());
        if let Some(alarm) = alarm {
            alarm.cancel(py)?;
        }
        if slf.get().when.get(py).is_none() { Ok(()) } else { Self::set_alarm(slf, &LoopRef::running(py)?) }
    }

    /// Whether the deadline came before the scope was left.
    fn expired(&self, py: Python<'_>) -> bool {
        matches!(self.state.get(py), State::Expiring | State::Expired)
    }

    fn _on_timeout(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::expire(slf)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let state = self.state.get(py);
        let name = state.name();
        if state != State::Entered {
            return Ok(format!("<Timeout [{name}]>"));
        }
        let when = match self.deadline(py) {
            Some(when) => py.import("builtins")?.call_method1("round", (when, 3))?.repr()?.to_string(),
            None => "None".to_owned(),
        };
        Ok(format!("<Timeout [{name}] when={when}>"))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.inner.traverse(visit, |inner, visit| {
            visit.call(&inner.task)?;
            visit.call(&inner.given)?;
            match &inner.alarm {
                Some(Alarm::Timer(timer)) => timer.traverse(visit),
                Some(Alarm::Queued) | None => Ok(()),
            }
        })
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        drop(slf.get().inner.take(slf.py()));
    }
}

stands_for!(Timeout, timeout_class);

impl Pooled for Timeout {
    type Base = ();

    fn pool() -> &'static Pool {
        static POOL: Pool = Pool::new();
        &POOL
    }

    fn dispose(self, py: Python<'_>) {
        let Inner { task, alarm, given } = self.inner.into_inner();
        drop(task.map(|task| task.into_bound(py)));
        drop(given.map(|given| given.into_bound(py)));
        if alarm.is_some() {
            crate::ffi::thread::attached(py, |_| drop(alarm));
        }
    }
}

/// `Timeout.__aenter__`.
struct Enter;

impl AsyncFunction for Enter {
    const NAME: &'static str = "Timeout.__aenter__";

    const PARAMETERS: &'static str = "(self)";

    const DOC: &'static str = "Begin the scope, in the task that runs.";

    #[inline]
    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let [scope] = arguments.bind("__aenter__", ["self"], 1, 1)?;
        Coroutine::of(py, Self::NAME, Entering(this(scope)?))
    }
}

/// The scope among the arguments of one of its methods.
fn this(scope: Option<Borrowed<'_, '_, PyAny>>) -> PyResult<Py<Timeout>> {
    match scope.map(|scope| scope.cast::<Timeout>().map(|scope| scope.to_owned().unbind())) {
        Some(Ok(scope)) => Ok(scope),
        _ => Err(PyTypeError::new_err("this is a method of Timeout")),
    }
}

struct Entering(Py<Timeout>);

impl Frame for Entering {
    #[inline]
    fn step<'py>(&mut self, py: Python<'py>, _outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        let scope = self.0.bind(py);
        Timeout::enter(scope)?;
        Ok(Next::Return(scope.clone().into_any()))
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.0)
    }
}

/// `Timeout.__aexit__`.
struct Exit;

impl AsyncFunction for Exit {
    const NAME: &'static str = "Timeout.__aexit__";

    const PARAMETERS: &'static str = "(self, exc_type, exc_val, exc_tb)";

    const DOC: &'static str = "End the scope.\n\n\
        Raises TimeoutError in the place of the CancelledError by which its deadline ended it.";

    #[inline]
    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let names = ["self", "exc_type", "exc_val", "exc_tb"];
        let [scope, exc_type, exc_val, _] = arguments.bind("__aexit__", names, 4, 4)?;
        let failure = match (exc_type, exc_val) {
            (Some(exc_type), Some(exc_val)) if !exc_val.is_none() && exc_type.cast::<PyType>().is_ok() => {
                Some(exc_val.to_owned().unbind())
            }
            _ => None,
        };
        Coroutine::of(py, Self::NAME, Exiting(this(scope)?, failure))
    }
}

struct Exiting(Py<Timeout>, Option<Py<PyAny>>);

impl Frame for Exiting {
    #[inline]
    fn step<'py>(&mut self, py: Python<'py>, _outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        let failure = self.1.take();
        Timeout::exit(self.0.bind(py), failure.as_ref().map(|failure| failure.bind(py)))?;
        Ok(Next::Return(py.None().into_bound(py)))
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.0)?;
        visit.call(&self.1)
    }
}
