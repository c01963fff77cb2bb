//! `timeout`, `timeout_at` and the scope they open.
//!
//! | file | topic |
//! |---|---|
//! | this one | the scope and its deadline |
//! | [`methods`] | what Python sees of a scope |
//! | [`scope`] | `async with`: its two ends |
//! | [`timed_out`] | the TimeoutError, and what becomes of other exceptions |
//!
//! The deadline is a timer of the engine on the scope itself: neither a handle nor a bound method is made. When it
//! comes the task is cancelled, and the CancelledError that arrives at the scope's end becomes a TimeoutError, there
//! and nowhere else: only if every request to cancel since the scope was entered is the scope's own.
//!
//! # Budget of a scope that does not expire
//!
//! The scope and a coroutine for each of its two ends, all three from pools; one push to the timers' heap and one
//! cancellation.

mod methods;
mod scope;
mod timed_out;

use ferrio::engine::Flow;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyString};
use pyo3::{Borrowed, FromPyObject, intern};

use self::scope::{Enter, Exit};
use self::timed_out::time_out;
use crate::asyncio;
use crate::classes::stands_for;
use crate::ffi::async_function;
use crate::ffi::cell::{GilCell, GilCopy};
use crate::ffi::number::to_f64;
use crate::ffi::pool::{self, Pool, Pooled};
use crate::ffi::raise::{raised, settled};
use crate::ffi::runnable::{Job, leave, runnable};
use crate::ffi::thread::attached;
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
        let loop_object = match asyncio::running_loop_or_none(py) {
            Ok(running) => running,
            Err(error) => return leave(error),
        };
        if let Some(core) = LoopRef::new(&loop_object).ours() {
            core.current().clear(&loop_object);
        }
        match Self::expire(this).map_err(|error| settled(py, error)) {
            Ok(()) => Flow::Continue,
            Err(error) if asyncio::leaves_the_loop(py, &error) => leave(error),
            Err(error) => {
                let message = PyString::new(py, "Exception in callback Timeout._on_timeout()").into_any();
                let exception = raised(py, error).into_any();
                report(&loop_object, &[("message", message), ("exception", exception)])
            }
        }
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
            attached(py, |_| drop(alarm));
        }
    }
}
