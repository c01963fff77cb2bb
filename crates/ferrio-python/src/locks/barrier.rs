//! `Barrier`.

use pyo3::exceptions::{PyOverflowError, PyRuntimeError, PyValueError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, intern};

use super::condition::{Condition, Wait as ConditionWait};
use super::lock::{Acquire, Lock};
use super::repr::describe;
use crate::asyncio::broken_barrier_error;
use crate::classes::{copied, stands_for};
use crate::coroutine::{Coroutine, Frame, Next, Outcome};
use crate::ffi::async_function::AsyncFunction;
use crate::ffi::cell::{GilCell, GilCopy};
use crate::ffi::method::CallArguments;
use crate::ffi::newborn;

/// What a barrier does with those who come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// They wait until all are there.
    Filling,
    /// All were there and are leaving; who comes waits until they have left.
    Draining,
    /// It was reset, and those who waited are leaving with an error; who comes waits until they have left.
    Resetting,
    /// It was aborted.
    Broken,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Filling => "filling",
            Self::Draining => "draining",
            Self::Resetting => "resetting",
            Self::Broken => "broken",
        }
    }
}

/// The number of one who has come, and whether it was waited for.
enum Arrival {
    Early(i64),
    Last(i64, PyResult<()>),
}

/// A point where `parties` tasks wait for each other (asyncio 3.11).
#[pyclass(frozen, subclass, dict, weakref, module = "ferrio")]
pub(crate) struct Barrier {
    /// Notified whenever the state changes. Its lock covers the state.
    condition: GilCell<Option<Py<Condition>>>,
    /// How many it takes, as it was given.
    parties: GilCell<Option<Py<PyAny>>>,
    /// The same as a number that the count can reach; none if it cannot.
    needed: GilCopy<Option<i64>>,
    state: GilCopy<State>,
    /// How many are inside.
    count: GilCopy<i64>,
}

impl Barrier {
    /// # Errors
    ///
    /// `RuntimeError` if a subclass has not called `__init__`.
    fn condition_and_lock(&self, py: Python<'_>) -> PyResult<(Py<Condition>, Py<Lock>)> {
        let condition = self.condition.clone_ref(py);
        let both = condition.and_then(|condition| condition.get().ours(py).map(|lock| (condition, lock)));
        both.ok_or_else(|| PyRuntimeError::new_err("Barrier object is not initialized."))
    }

    /// Has everyone look at the state again.
    fn notify_all(&self, py: Python<'_>) -> PyResult<()> {
        match self.condition.clone_ref(py) {
            Some(condition) => condition.get().wake(py, f64::INFINITY),
            None => Ok(()),
        }
    }

    /// How one comes who need not be kept from waiting; the last lets all go.
    fn arrive(&self, py: Python<'_>) -> Arrival {
        let index = self.count.get(py);
        let count = index.saturating_add(1);
        self.count.set(py, count);
        if Some(count) != self.needed.get(py) {
            return Arrival::Early(index);
        }
        self.state.set(py, State::Draining);
        Arrival::Last(index, self.notify_all(py))
    }

    /// How one of those who wait leaves; the last makes room for the next.
    fn leave(&self, py: Python<'_>) -> PyResult<()> {
        let left = self.count.get(py).saturating_sub(1);
        self.count.set(py, left);
        if left == 0 {
            if matches!(self.state.get(py), State::Draining | State::Resetting) {
                self.state.set(py, State::Filling);
            }
            self.notify_all(py)?;
        }
        Ok(())
    }

    /// Begins to let those out who wait, with an error.
    fn reset(&self, py: Python<'_>) -> PyResult<()> {
        self.state.set(py, if self.count.get(py) > 0 { State::Resetting } else { State::Filling });
        self.notify_all(py)
    }

    fn abort(&self, py: Python<'_>) -> PyResult<()> {
        self.state.set(py, State::Broken);
        self.notify_all(py)
    }
}

#[pymethods]
impl Barrier {
    #[new]
    #[pyo3(signature = (*args, **_kwargs), text_signature = "(parties)")]
    fn __new__(args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        newborn::has_dict(args.py());
        Self {
            condition: GilCell::new(None),
            parties: GilCell::new(None),
            needed: GilCopy::new(None),
            state: GilCopy::new(State::Filling),
            count: GilCopy::new(0),
        }
    }

    /// A barrier for `parties` tasks.
    ///
    /// Raises ValueError if that is less than one.
    fn __init__(slf: &Bound<'_, Self>, parties: Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        if parties.lt(1)? {
            return Err(PyValueError::new_err("parties must be >= 1"));
        }
        let barrier = slf.get();
        let condition = newborn::make(py, Condition::with_own_lock(py)?)?;
        drop(barrier.condition.replace(py, Some(condition)));
        barrier.set_parties(parties)?;
        barrier.state.set(py, State::Filling);
        barrier.count.set(py, 0);
        Ok(())
    }

    /// How many tasks it takes.
    #[getter]
    fn parties(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.parties.clone_ref(py)
    }

    /// How many tasks wait.
    #[getter]
    fn n_waiting(&self, py: Python<'_>) -> i64 {
        if self.state.get(py) == State::Filling { self.count.get(py) } else { 0 }
    }

    /// Whether the barrier was aborted.
    #[getter]
    fn broken(&self, py: Python<'_>) -> bool {
        self.state.get(py) == State::Broken
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let (py, barrier) = (slf.py(), slf.get());
        let state = barrier.state.get(py);
        if state == State::Broken {
            return describe(slf, state.name(), 0);
        }
        let state = state.name();
        let parties = barrier.parties.clone_ref(py).unwrap_or_else(|| py.None());
        let waiting = format!("{state}, waiters:{}/{}", barrier.n_waiting(py), parties.bind(py).str()?);
        describe(slf, &waiting, 0)
    }

    #[getter(_count)]
    fn get_count(&self, py: Python<'_>) -> i64 {
        self.count.get(py)
    }

    #[setter(_count)]
    fn set_count(&self, py: Python<'_>, count: i64) {
        self.count.set(py, count);
    }

    #[getter(_parties)]
    fn get_parties(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.parties(py)
    }

    #[setter(_parties)]
    fn set_parties(&self, parties: Bound<'_, PyAny>) -> PyResult<()> {
        let py = parties.py();
        self.needed.set(py, reachable(&parties)?);
        drop(self.parties.replace(py, Some(parties.unbind())));
        Ok(())
    }

    #[getter(_state)]
    fn get_state(&self, py: Python<'_>) -> &'static str {
        self.state.get(py).name()
    }

    #[setter(_state)]
    fn set_state(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        let all = [State::Filling, State::Draining, State::Resetting, State::Broken];
        let Some(state) = all.into_iter().find(|state| state.name() == name) else {
            return Err(PyValueError::new_err(format!("'{name}' is no state of a barrier")));
        };
        self.state.set(py, state);
        Ok(())
    }

    /// What is notified of changes: a condition without attributes, not for use.
    #[getter(_cond)]
    fn get_condition(&self, py: Python<'_>) -> Option<Py<Condition>> {
        self.condition.clone_ref(py)
    }

    #[setter(_cond)]
    fn set_condition(&self, py: Python<'_>, condition: Py<Condition>) {
        drop(self.condition.replace(py, Some(condition)));
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.condition.traverse(visit, |condition, visit| visit.call(condition))?;
        self.parties.traverse(visit, |parties, visit| visit.call(parties))
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        drop((slf.get().condition.take(slf.py()), slf.get().parties.take(slf.py())));
    }
}

/// A number of parties as one that a count can reach: no fraction, and nothing beyond all counting.
fn reachable(parties: &Bound<'_, PyAny>) -> PyResult<Option<i64>> {
    let whole = match parties.extract::<i64>() {
        Ok(whole) => return Ok(Some(whole)),
        Err(error) if error.is_instance_of::<PyOverflowError>(parties.py()) => return Ok(None),
        Err(_) => parties.extract::<f64>()?,
    };
    Ok((whole.fract() == 0.0 && whole < i64::MAX as f64).then_some(whole as i64))
}

copied!(Barrier, ["_cond", "_parties", "_state", "_count"]);
stands_for!(Barrier, barrier_class);

/// How far one who waits at the barrier has come.
enum Stage {
    /// Takes the lock.
    Enters(Acquire),
    /// Has the lock, and looks whether it may wait.
    Decides,
    /// Waits until those before have left.
    IsBlocked(ConditionWait),
    /// Waits for the others, as the one with that number.
    Waits(i64, ConditionWait),
}

/// Waiting at the barrier.
struct Wait {
    barrier: Py<Barrier>,
    condition: Py<Condition>,
    lock: Py<Lock>,
    stage: Stage,
}

/// How far a step inside the lock comes.
enum Progress<'py> {
    Waits(Next<'py>),
    /// The task with that number leaves, by an error or without.
    Leaves(i64, PyResult<()>),
}

impl Wait {
    fn new(barrier: Borrowed<'_, '_, Barrier>) -> PyResult<Self> {
        let py = barrier.py();
        let (condition, lock) = barrier.get().condition_and_lock(py)?;
        let stage = Stage::Enters(Acquire::new(lock.clone_ref(py), true));
        Ok(Self { barrier: barrier.to_owned().unbind(), condition, lock, stage })
    }

    fn wait_for_change(&self, py: Python<'_>) -> ConditionWait {
        ConditionWait::new(self.condition.clone_ref(py))
    }

    /// Goes on with the lock held.
    ///
    /// # Errors
    ///
    /// What ends it before it counts as one that waits.
    fn step_inside<'py>(&mut self, py: Python<'py>, mut outcome: Outcome<'py>) -> PyResult<Progress<'py>> {
        loop {
            self.stage = match std::mem::replace(&mut self.stage, Stage::Decides) {
                Stage::Enters(_) | Stage::Decides => match self.barrier.get().state.get(py) {
                    State::Draining | State::Resetting => Stage::IsBlocked(self.wait_for_change(py)),
                    State::Broken => return Err(broken_barrier_error::new_err(py, "Barrier aborted")),
                    State::Filling => match self.barrier.get().arrive(py) {
                        Arrival::Last(index, notified) => return Ok(Progress::Leaves(index, notified)),
                        Arrival::Early(index) => Stage::Waits(index, self.wait_for_change(py)),
                    },
                },
                Stage::IsBlocked(mut wait) => match wait.step(py, outcome)? {
                    Next::Return(_) => Stage::Decides,
                    waits => {
                        self.stage = Stage::IsBlocked(wait);
                        return Ok(Progress::Waits(waits));
                    }
                },
                Stage::Waits(index, mut wait) => match wait.step(py, outcome) {
                    Err(error) => return Ok(Progress::Leaves(index, Err(error))),
                    Ok(Next::Return(_)) => match self.barrier.get().state.get(py) {
                        State::Filling => Stage::Waits(index, self.wait_for_change(py)),
                        State::Draining => return Ok(Progress::Leaves(index, Ok(()))),
                        State::Broken | State::Resetting => {
                            let error = broken_barrier_error::new_err(py, "Abort or reset of barrier");
                            return Ok(Progress::Leaves(index, Err(error)));
                        }
                    },
                    Ok(waits) => {
                        self.stage = Stage::Waits(index, wait);
                        return Ok(Progress::Waits(waits));
                    }
                },
            };
            outcome = Ok(py.None().into_bound(py));
        }
    }
}

impl Frame for Wait {
    fn step<'py>(&mut self, py: Python<'py>, mut outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        if let Stage::Enters(acquire) = &mut self.stage {
            match acquire.step(py, outcome)? {
                Next::Return(value) => outcome = Ok(value),
                waits => return Ok(waits),
            }
        }
        let result = match self.step_inside(py, outcome) {
            Ok(Progress::Waits(waits)) => return Ok(waits),
            Ok(Progress::Leaves(index, passed)) => self.barrier.get().leave(py).and(passed).map(|()| index),
            Err(error) => Err(error),
        };
        self.lock.get().unlock(py)?;
        Ok(Next::Return(result?.into_pyobject(py)?.into_any()))
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.barrier)?;
        visit.call(&self.condition)?;
        visit.call(&self.lock)?;
        match &self.stage {
            Stage::Decides => Ok(()),
            Stage::Enters(acquire) => acquire.traverse(visit),
            Stage::IsBlocked(wait) | Stage::Waits(_, wait) => wait.traverse(visit),
        }
    }
}

/// A change of the barrier's state, with its lock held.
struct Change {
    barrier: Py<Barrier>,
    lock: Py<Lock>,
    acquire: Acquire,
    change: fn(&Barrier, Python<'_>) -> PyResult<()>,
}

impl Change {
    fn new(barrier: Borrowed<'_, '_, Barrier>, change: fn(&Barrier, Python<'_>) -> PyResult<()>) -> PyResult<Self> {
        let py = barrier.py();
        let (_, lock) = barrier.get().condition_and_lock(py)?;
        let acquire = Acquire::new(lock.clone_ref(py), true);
        Ok(Self { barrier: barrier.to_owned().unbind(), lock, acquire, change })
    }
}

impl Frame for Change {
    fn step<'py>(&mut self, py: Python<'py>, outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        match self.acquire.step(py, outcome)? {
            Next::Return(none) => {
                let changed = (self.change)(self.barrier.get(), py);
                self.lock.get().unlock(py)?;
                changed.map(|()| Next::Return(none))
            }
            waits => Ok(waits),
        }
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.barrier)?;
        visit.call(&self.lock)?;
        self.acquire.traverse(visit)
    }
}

/// `Barrier.__aexit__`, which does nothing.
struct Exit;

impl Frame for Exit {
    fn step<'py>(&mut self, py: Python<'py>, _outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        Ok(Next::Return(py.None().into_bound(py)))
    }

    fn traverse(&self, _visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        Ok(())
    }
}

/// `Barrier.__aenter__` of a subclass: its own `wait()`.
struct EnterByMethod {
    barrier: Py<Barrier>,
    awaits: bool,
}

impl Frame for EnterByMethod {
    fn step<'py>(&mut self, py: Python<'py>, outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        if std::mem::replace(&mut self.awaits, true) {
            return outcome.map(Next::Return);
        }
        self.barrier.bind(py).call_method0(intern!(py, "wait")).map(Next::Await)
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.barrier)
    }
}

/// `Barrier.wait`.
pub(super) struct BarrierWait;

impl AsyncFunction for BarrierWait {
    const NAME: &'static str = "Barrier.wait";

    const PARAMETERS: &'static str = "(self)";

    const DOC: &'static str = "Waits until as many tasks as the barrier takes are here. Returns this one's number, from 0.\n\n\
        Raises BrokenBarrierError if the barrier is aborted, or reset meanwhile.";

    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let (barrier, _) = arguments.method::<Barrier, 1>(Self::NAME, ["self"])?;
        Coroutine::of(py, Self::NAME, Wait::new(barrier)?)
    }
}

/// `Barrier.reset`.
pub(super) struct BarrierReset;

impl AsyncFunction for BarrierReset {
    const NAME: &'static str = "Barrier.reset";

    const PARAMETERS: &'static str = "(self)";

    const DOC: &'static str = "Makes the barrier new. Tasks that wait at it get BrokenBarrierError.";

    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let (barrier, _) = arguments.method::<Barrier, 1>(Self::NAME, ["self"])?;
        Coroutine::of(py, Self::NAME, Change::new(barrier, Barrier::reset)?)
    }
}

/// `Barrier.abort`.
pub(super) struct BarrierAbort;

impl AsyncFunction for BarrierAbort {
    const NAME: &'static str = "Barrier.abort";

    const PARAMETERS: &'static str = "(self)";

    const DOC: &'static str = "Breaks the barrier: tasks that wait at it, or come to it, get BrokenBarrierError.";

    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let (barrier, _) = arguments.method::<Barrier, 1>(Self::NAME, ["self"])?;
        Coroutine::of(py, Self::NAME, Change::new(barrier, Barrier::abort)?)
    }
}

/// `Barrier.__aenter__`.
pub(super) struct BarrierEnter;

impl AsyncFunction for BarrierEnter {
    const NAME: &'static str = "Barrier.__aenter__";

    const PARAMETERS: &'static str = "(self)";

    const DOC: &'static str = "Waits at the barrier, and returns this task's number.";

    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let (barrier, _) = arguments.method::<Barrier, 1>(Self::NAME, ["self"])?;
        if barrier.is_exact_instance_of::<Barrier>() {
            return Coroutine::of(py, Self::NAME, Wait::new(barrier)?);
        }
        Coroutine::of(py, Self::NAME, EnterByMethod { barrier: barrier.to_owned().unbind(), awaits: false })
    }
}

/// `Barrier.__aexit__`.
pub(super) struct BarrierExit;

impl AsyncFunction for BarrierExit {
    const NAME: &'static str = "Barrier.__aexit__";

    const PARAMETERS: &'static str = "(self, *args)";

    const DOC: &'static str = "Does nothing: who got through is through.";

    fn call<'py>(py: Python<'py>, _arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        Coroutine::of(py, Self::NAME, Exit)
    }
}
