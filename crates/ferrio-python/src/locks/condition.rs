//! `Condition`.

use pyo3::exceptions::{PyBaseException, PyRuntimeError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, intern};

use super::line::{Line, line_attributes};
use super::lock::{Acquire, Lock, Release};
use super::repr::describe;
use super::scope::{EnterByMethod, ExitByMethod};
use super::waiters::wake;
use crate::asyncio::cancelled_error;
use crate::classes::{copied, stands_for};
use crate::coroutine::{Coroutine, Frame, Next, Outcome};
use crate::ffi::async_function::AsyncFunction;
use crate::ffi::cell::GilCell;
use crate::ffi::method::CallArguments;
use crate::ffi::newborn;
use crate::futures::Future;

/// A condition variable: tasks that hold its lock wait to be notified.
///
/// The lock's `locked`, `acquire` and `release` are attributes of the object.
#[pyclass(frozen, subclass, dict, weakref, module = "ferrio")]
pub(crate) struct Condition {
    line: Line,
    lock: GilCell<Option<Underlying>>,
}

/// The lock of a condition.
enum Underlying {
    /// A lock of ours, which needs no method calls.
    Ours(Py<Lock>),
    /// Anything else that has the methods; they are called through the condition's attributes.
    Any(Py<PyAny>),
}

impl Condition {
    /// A condition with a lock of its own, for use by Rust: the object has no attributes.
    pub(super) fn with_own_lock(py: Python<'_>) -> PyResult<Self> {
        let lock = Underlying::Ours(newborn::make(py, Lock::unlocked())?);
        Ok(Self { line: Line::default(), lock: GilCell::new(Some(lock)) })
    }

    /// The lock, if it is one of ours.
    #[inline]
    pub(super) fn ours(&self, py: Python<'_>) -> Option<Py<Lock>> {
        self.lock.with(py, |lock| match lock {
            Some(Underlying::Ours(lock)) => Some(lock.clone_ref(py)),
            Some(Underlying::Any(_)) | None => None,
        })
    }

    fn is_locked(this: &Bound<'_, Self>) -> PyResult<bool> {
        let py = this.py();
        match this.get().ours(py) {
            Some(lock) => Ok(lock.get().is_locked(py)),
            None => this.call_method0(intern!(py, "locked"))?.is_truthy(),
        }
    }

    fn unlock(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        match this.get().ours(py) {
            Some(lock) => lock.get().unlock(py),
            None => this.call_method0(intern!(py, "release")).map(drop),
        }
    }

    /// Wakes the first `count` of those who wait. Whether the lock is held is not looked at.
    pub(super) fn wake(&self, py: Python<'_>, count: f64) -> PyResult<()> {
        let mut woken = 0.0;
        let mut position = 0;
        while woken < count
            && let Some(waiter) = self.line.waiters.at(py, position)?
        {
            if wake(&waiter, false.into_pyobject(py)?.to_owned().into_any())? {
                woken += 1.0;
            }
            position += 1;
        }
        Ok(())
    }
}

#[pymethods]
impl Condition {
    #[new]
    #[pyo3(signature = (*args, **_kwargs), text_signature = "(lock=None)")]
    fn __new__(args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        newborn::has_dict(args.py());
        Self { line: Line::default(), lock: GilCell::new(None) }
    }

    /// A condition of `lock`, or of a new Lock.
    #[pyo3(signature = (lock=None))]
    fn __init__(slf: &Bound<'_, Self>, lock: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let py = slf.py();
        let lock = match lock {
            Some(lock) => lock,
            None => newborn::make(py, Lock::unlocked())?.into_bound(py).into_any(),
        };
        Self::set_lock(slf, lock)?;
        slf.get().line.reset(py);
        Ok(())
    }

    /// Wakes at most `n` tasks that wait. They go on when they have the lock, which this does not release.
    ///
    /// Raises RuntimeError if nobody has the lock.
    #[pyo3(signature = (n=1.0), text_signature = "($self, n=1)")]
    fn notify(slf: &Bound<'_, Self>, n: f64) -> PyResult<()> {
        if !Self::is_locked(slf)? {
            return Err(PyRuntimeError::new_err("cannot notify on un-acquired lock"));
        }
        slf.get().wake(slf.py(), n)
    }

    /// Wakes all tasks that wait, as notify() does.
    fn notify_all(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let count = slf.get().line.waiters.len(py)?;
        if slf.is_exact_instance_of::<Self>() {
            return Self::notify(slf, count as f64);
        }
        slf.call_method1(intern!(py, "notify"), (count,)).map(drop)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let state = if Self::is_locked(slf)? { "locked" } else { "unlocked" };
        describe(slf, state, slf.get().line.waiters.len(slf.py())?)
    }

    /// Makes it the condition of `lock`, whose methods it has from now on.
    #[setter(_lock)]
    fn set_lock(slf: &Bound<'_, Self>, lock: Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        for name in [intern!(py, "locked"), intern!(py, "acquire"), intern!(py, "release")] {
            slf.setattr(name, lock.getattr(name)?)?;
        }
        let underlying = match lock.cast_exact::<Lock>() {
            Ok(ours) => Underlying::Ours(ours.clone().unbind()),
            Err(_) => Underlying::Any(lock.unbind()),
        };
        drop(slf.get().lock.replace(py, Some(underlying)));
        Ok(())
    }

    #[getter(_lock)]
    fn get_lock(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.lock.with(py, |lock| match lock {
            Some(Underlying::Ours(lock)) => Some(lock.clone_ref(py).into_any()),
            Some(Underlying::Any(lock)) => Some(lock.clone_ref(py)),
            None => None,
        })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.line.traverse(visit)?;
        self.lock.traverse(visit, |lock, visit| match lock {
            Some(Underlying::Ours(lock)) => visit.call(lock),
            Some(Underlying::Any(lock)) => visit.call(lock),
            None => Ok(()),
        })
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        slf.get().line.clear(slf.py());
        drop(slf.get().lock.take(slf.py()));
    }
}

line_attributes!(Condition, deque -> Bound<'py, PyAny>);
copied!(Condition, ["_lock", "_waiters", "_loop"]);
stands_for!(Condition, condition_class);

/// Waiting to be notified, by itself or as a part of another frame.
pub(super) struct Wait {
    condition: Py<Condition>,
    stage: Stage,
}

enum Stage {
    Begins,
    Waits(Py<Future>),
    Reacquires(Reacquire),
}

/// Taking the lock again, which a cancellation does not end.
struct Reacquire {
    /// The acquisition; none of a lock that is not ours, for which its method is awaited.
    acquire: Option<Acquire>,
    /// What is raised in the end: what ended the wait, or the last cancellation since.
    error: Option<Py<PyBaseException>>,
}

impl Reacquire {
    fn begin<'py>(&mut self, condition: &Bound<'py, Condition>) -> PyResult<Next<'py>> {
        let py = condition.py();
        match condition.get().ours(py) {
            Some(lock) => self.acquire.insert(Acquire::new(lock, false)).step(py, Ok(py.None().into_bound(py))),
            None => {
                self.acquire = None;
                condition.call_method0(intern!(py, "acquire")).map(Next::Await)
            }
        }
    }
}

impl Wait {
    #[inline]
    pub(super) fn new(condition: Py<Condition>) -> Self {
        Self { condition, stage: Stage::Begins }
    }

    fn begin<'py>(&mut self, py: Python<'py>) -> PyResult<Next<'py>> {
        let this = self.condition.bind(py);
        if !Condition::is_locked(this)? {
            return Err(PyRuntimeError::new_err("cannot wait on un-acquired lock"));
        }
        let waiter = this.get().line.bound.waiter(this)?;
        Condition::unlock(this)?;
        this.get().line.waiters.push(&waiter)?;
        self.stage = Stage::Waits(waiter.clone().unbind());
        Ok(Next::Await(waiter.into_any()))
    }

    /// Begins to take the lock, after a wait that ended with `error`, if with any.
    fn reacquire<'py>(&mut self, py: Python<'py>, error: Option<Py<PyBaseException>>) -> PyResult<Next<'py>> {
        let mut reacquire = Reacquire { acquire: None, error };
        let next = reacquire.begin(self.condition.bind(py));
        self.reacquiring(py, reacquire, next)
    }

    /// Goes on with what came of a step of the acquisition. It begins again as often as it is cancelled.
    fn reacquiring<'py>(
        &mut self,
        py: Python<'py>,
        mut reacquire: Reacquire,
        mut next: PyResult<Next<'py>>,
    ) -> PyResult<Next<'py>> {
        loop {
            match next {
                Ok(Next::Return(_)) => return self.finish(py, reacquire.error),
                Ok(waits) => {
                    self.stage = Stage::Reacquires(reacquire);
                    return Ok(waits);
                }
                Err(error) if cancelled_error::is(error.value(py)) => {
                    reacquire.error = Some(error.into_value(py));
                    next = reacquire.begin(self.condition.bind(py));
                }
                Err(error) => return self.fail(py, error),
            }
        }
    }

    fn finish<'py>(&mut self, py: Python<'py>, error: Option<Py<PyBaseException>>) -> PyResult<Next<'py>> {
        match error {
            Some(error) => self.fail(py, PyErr::from_value(error.into_bound(py).into_any())),
            None => Ok(Next::Return(true.into_pyobject(py)?.to_owned().into_any())),
        }
    }

    /// It may have been us who were notified: another one is, then, if need be for nothing.
    fn fail<'py>(&mut self, py: Python<'py>, error: PyErr) -> PyResult<Next<'py>> {
        self.condition.get().wake(py, 1.0)?;
        Err(error)
    }
}

impl Frame for Wait {
    fn step<'py>(&mut self, py: Python<'py>, outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        match std::mem::replace(&mut self.stage, Stage::Begins) {
            Stage::Begins => self.begin(py),
            Stage::Waits(waiter) => {
                self.condition.get().line.waiters.remove(&waiter.into_bound(py))?;
                self.reacquire(py, outcome.err().map(|error| error.into_value(py)))
            }
            Stage::Reacquires(mut reacquire) => {
                let next = match &mut reacquire.acquire {
                    Some(acquire) => acquire.step(py, outcome),
                    None => outcome.map(Next::Return),
                };
                self.reacquiring(py, reacquire, next)
            }
        }
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.condition)?;
        match &self.stage {
            Stage::Begins => Ok(()),
            Stage::Waits(waiter) => visit.call(waiter),
            Stage::Reacquires(Reacquire { acquire, error }) => {
                visit.call(error)?;
                acquire.iter().try_for_each(|acquire| acquire.traverse(visit))
            }
        }
    }
}

/// Waiting until a predicate holds.
struct WaitFor {
    condition: Py<Condition>,
    predicate: Py<PyAny>,
    /// The wait that goes on; none before the first, and none of a subclass, whose own method is awaited.
    wait: Option<Box<Wait>>,
    awaits: bool,
}

impl Frame for WaitFor {
    fn step<'py>(&mut self, py: Python<'py>, mut outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        loop {
            if let Some(mut wait) = self.wait.take() {
                match wait.step(py, outcome)? {
                    Next::Return(_) => {}
                    waits => {
                        self.wait = Some(wait);
                        return Ok(waits);
                    }
                }
            } else if std::mem::replace(&mut self.awaits, false) {
                outcome?;
            }
            let result = self.predicate.bind(py).call0()?;
            if result.is_truthy()? {
                return Ok(Next::Return(result));
            }
            let condition = self.condition.bind(py);
            if !condition.is_exact_instance_of::<Condition>() {
                self.awaits = true;
                return condition.call_method0(intern!(py, "wait")).map(Next::Await);
            }
            self.wait = Some(Box::new(Wait::new(condition.clone().unbind())));
            outcome = Ok(py.None().into_bound(py));
        }
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.condition)?;
        visit.call(&self.predicate)?;
        self.wait.iter().try_for_each(|wait| wait.traverse(visit))
    }
}

/// `Condition.wait`.
pub(super) struct ConditionWait;

impl AsyncFunction for ConditionWait {
    const NAME: &'static str = "Condition.wait";

    const PARAMETERS: &'static str = "(self)";

    const DOC: &'static str = "Releases the lock, waits to be notified, and takes the lock again. Returns True.\n\n\
        It can return without a notification: look again at what was waited for.\n\n\
        Raises RuntimeError if nobody has the lock.";

    #[inline]
    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let (condition, _) = arguments.method::<Condition, 1>(Self::NAME, ["self"])?;
        Coroutine::of(py, Self::NAME, Wait::new(condition.to_owned().unbind()))
    }
}

/// `Condition.wait_for`.
pub(super) struct ConditionWaitFor;

impl AsyncFunction for ConditionWaitFor {
    const NAME: &'static str = "Condition.wait_for";

    const PARAMETERS: &'static str = "(self, predicate)";

    const DOC: &'static str = "Waits until `predicate()` is true, and returns what it returned.";

    #[inline]
    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let (condition, [_, predicate]) = arguments.method::<Condition, 2>(Self::NAME, ["self", "predicate"])?;
        let (condition, predicate) = (condition.to_owned().unbind(), predicate.to_owned().unbind());
        Coroutine::of(py, Self::NAME, WaitFor { condition, predicate, wait: None, awaits: false })
    }
}

/// `Condition.__aenter__`.
pub(super) struct ConditionEnter;

impl AsyncFunction for ConditionEnter {
    const NAME: &'static str = "Condition.__aenter__";

    const PARAMETERS: &'static str = "(self)";

    const DOC: &'static str = "Takes the lock.";

    #[inline]
    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let (condition, _) = arguments.method::<Condition, 1>(Self::NAME, ["self"])?;
        match condition.get().ours(py) {
            Some(lock) => Coroutine::of(py, Self::NAME, Acquire::new(lock, true)),
            None => Coroutine::of(py, Self::NAME, EnterByMethod::new(condition.as_any())),
        }
    }
}

/// `Condition.__aexit__`.
pub(super) struct ConditionExit;

impl AsyncFunction for ConditionExit {
    const NAME: &'static str = "Condition.__aexit__";

    const PARAMETERS: &'static str = "(self, exc_type, exc, tb)";

    const DOC: &'static str = "Releases the lock.";

    #[inline]
    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let (condition, _) = arguments.method::<Condition, 4>(Self::NAME, ["self", "exc_type", "exc", "tb"])?;
        match condition.get().ours(py) {
            Some(lock) => Coroutine::of(py, Self::NAME, Release::new(lock)),
            None => Coroutine::of(py, Self::NAME, ExitByMethod::new(condition.as_any())),
        }
    }
}
