//! `as_completed`.

use std::collections::VecDeque;

use ferrio::engine::Flow;
use pyo3::exceptions::{PyStopAsyncIteration, PyTimeoutError, PyTypeError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::PySet;
use pyo3::{PyTraverseError, intern};

use super::any_future::{AnyFuture, current_task};
use super::ensure_future::{ensure_future, is_awaitable};
use super::iscoroutine::iscoroutine;
use crate::asyncio;
use crate::coroutine::{Coroutine, Frame, Next, Outcome};
use crate::ffi::cell::{GilCell, GilCopy};
use crate::ffi::coroutine::is_generator;
use crate::ffi::raise::settled;
use crate::ffi::runnable::{Job, leave};
use crate::futures::{Future, Notified};
use crate::loop_ref::{Due, LoopRef, Timer};

/// An iterator over `fs` in the order in which they are done.
///
/// As an asynchronous iterator it yields futures that are done, the ones given or the tasks that were made; as a plain
/// one it yields coroutines of the next result. Both raise TimeoutError when `timeout` seconds have passed.
#[pyfunction]
#[pyo3(signature = (fs, *, timeout=None))]
pub(crate) fn as_completed<'py>(
    fs: &Bound<'py, PyAny>,
    timeout: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, AsCompleted>> {
    // A generator is a collection here, also where it is a coroutine elsewhere.
    if !is_generator(fs) && iscoroutine(fs)? || is_awaitable(fs)? {
        let class = fs.get_type();
        return Err(PyTypeError::new_err(format!("expects an iterable of awaitables, not {}", class.name()?)));
    }
    AsCompleted::new(fs, timeout)
}

/// What `as_completed` returns.
#[pyclass(frozen, module = "ferrio._ferrio", name = "_AsCompletedIterator")]
pub(crate) struct AsCompleted {
    awaiter: Option<Py<PyAny>>,
    /// The futures that are not done.
    todo: Py<PySet>,
    /// How many are still to be yielded.
    left: GilCopy<usize>,
    inner: GilCell<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Those that are done and have not been handed out, in order; `None` where the time was up.
    done: VecDeque<Option<Py<PyAny>>>,
    /// Who waits for the next, in order.
    getters: VecDeque<Py<Future>>,
    timer: Option<Timer>,
}

impl AsCompleted {
    fn new<'py>(fs: &Bound<'py, PyAny>, timeout: Option<&Bound<'py, PyAny>>) -> PyResult<Bound<'py, Self>> {
        let py = fs.py();
        let event_loop = asyncio::get_event_loop(py)?.call0()?;
        let awaiter = current_task(&asyncio::running_loop(py)?)?;
        let todo = PySet::empty(py)?;
        for awaitable in py.get_type::<PySet>().call1((fs,))?.cast_into::<PySet>()?.iter() {
            todo.add(ensure_future(&awaitable, Some(&event_loop))?)?;
        }
        let this = Self {
            awaiter: awaiter.as_ref().map(|awaiter| awaiter.clone().unbind()),
            todo: todo.clone().unbind(),
            left: GilCopy::new(todo.len()),
            inner: GilCell::default(),
        };
        let this = Bound::new(py, this)?;
        for future in todo.iter().collect::<Vec<_>>() {
            AnyFuture::of(&future).notify::<OneDone>(&this, awaiter.as_ref())?;
        }
        if let Some(timeout) = timeout
            && !todo.is_empty()
        {
            let loop_ref = LoopRef::new(&event_loop);
            let due = Due::After(timeout.extract()?);
            let timer = loop_ref.set_timer::<TimeUp>(&this, due, |py| {
                this.getattr(intern!(py, "_handle_timeout")).map(|callback| (callback, Vec::new()))
            })?;
            this.get().inner.with(py, |inner| inner.timer = Some(timer));
        }
        Ok(this)
    }

    /// Hands one out, or says that the time is up.
    fn put(&self, py: Python<'_>, future: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let future = future.map(Bound::unbind);
        self.inner.with(py, |inner| inner.done.push_back(future));
        self.wake_next(py)
    }

    fn wake_next(&self, py: Python<'_>) -> PyResult<()> {
        while let Some(getter) = self.inner.with(py, |inner| inner.getters.pop_front()) {
            let getter = getter.into_bound(py);
            if getter.get().is_pending(py) {
                return Future::resolve(&getter, py.None().into_bound(py));
            }
        }
        Ok(())
    }

    fn time_up(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let own = this.get();
        let todo = own.todo.bind(py);
        let awaiter = own.awaiter.as_ref().map(|awaiter| awaiter.bind(py));
        for future in todo.iter().collect::<Vec<_>>() {
            AnyFuture::of(&future).forget(this.as_any(), awaiter)?;
            own.put(py, None)?;
        }
        todo.clear();
        Ok(())
    }

    /// One is to be yielded; false if all were.
    fn claim(&self, py: Python<'_>) -> bool {
        let left = self.left.get(py);
        self.left.set(py, left.saturating_sub(1));
        left > 0
    }
}

#[pymethods]
impl AsCompleted {
    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __anext__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let iterator = slf.clone().unbind();
        let stage = Stage::Begins { claimed: false };
        let frame = NextDone { iterator, resolve: false, stage };
        Coroutine::of(slf.py(), "_AsCompletedIterator.__anext__", frame)
    }

    fn __next__<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        if !slf.get().claim(slf.py()) {
            return Ok(None);
        }
        let iterator = slf.clone().unbind();
        let stage = Stage::Begins { claimed: true };
        let frame = NextDone { iterator, resolve: true, stage };
        Coroutine::of(slf.py(), "_AsCompletedIterator._wait_for_one", frame).map(Some)
    }

    /// What a loop of another make calls when the time is up.
    fn _handle_timeout(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::time_up(slf)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.awaiter)?;
        visit.call(&self.todo)?;
        self.inner.traverse(visit, |inner, visit| {
            inner.done.iter().try_for_each(|future| visit.call(future))?;
            inner.getters.iter().try_for_each(|getter| visit.call(getter))?;
            inner.timer.as_ref().map_or(Ok(()), |timer| timer.traverse(visit))
        })
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        drop(slf.get().inner.take(slf.py()));
    }
}

/// One of the futures is done.
struct OneDone;

impl Notified for OneDone {
    type Class = AsCompleted;

    const NAME: &'static str = "_AsCompletedIterator._handle_completion";

    fn notified(this: &Bound<'_, AsCompleted>, future: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = this.py();
        let own = this.get();
        let todo = own.todo.bind(py);
        if todo.is_empty() {
            // The time was up in the turn in which the future was done.
            return Ok(());
        }
        todo.discard(future)?;
        own.put(py, Some(future.clone()))?;
        if todo.is_empty()
            && let Some(timer) = own.inner.with(py, |inner| inner.timer.take())
        {
            timer.cancel(py)?;
        }
        Ok(())
    }
}

/// The time is up.
struct TimeUp;

impl Job for TimeUp {
    type Class = AsCompleted;

    fn run(this: &Bound<'_, AsCompleted>) -> Flow {
        match AsCompleted::time_up(this).map_err(|error| settled(this.py(), error)) {
            Ok(()) => Flow::Continue,
            Err(error) if asyncio::leaves_the_loop(this.py(), &error) => leave(error),
            Err(error) => {
                error.write_unraisable(this.py(), Some(this.as_any()));
                Flow::Continue
            }
        }
    }
}

/// Waits for the next future that is done.
struct NextDone {
    iterator: Py<AsCompleted>,
    /// Whether it is the future's result that is returned, or the future.
    resolve: bool,
    stage: Stage,
}

enum Stage {
    Begins { claimed: bool },
    Waits(Py<Future>),
}

impl Frame for NextDone {
    fn step<'py>(&mut self, py: Python<'py>, outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        let own = self.iterator.bind(py).get();
        match (&self.stage, outcome) {
            (Stage::Begins { claimed }, _) => {
                if !claimed && !own.claim(py) {
                    return Err(PyStopAsyncIteration::new_err(()));
                }
            }
            (Stage::Waits(_), Ok(_)) => {}
            (Stage::Waits(getter), Err(error)) => {
                let getter = getter.bind(py);
                Future::cancel(getter, None)?;
                let waits = own.inner.with(py, |inner| {
                    inner.getters.retain(|other| !other.is(getter));
                    !inner.done.is_empty()
                });
                own.left.set(py, own.left.get(py) + 1);
                if waits && !AnyFuture::Native(getter).is_cancelled()? {
                    // It was woken, and cannot take what it was woken for: the next one can.
                    own.wake_next(py)?;
                }
                return Err(error);
            }
        }
        match own.inner.with(py, |inner| inner.done.pop_front()) {
            Some(Some(future)) if self.resolve => AnyFuture::of(future.bind(py)).result().map(Next::Return),
            Some(Some(future)) => Ok(Next::Return(future.into_bound(py))),
            Some(None) => Err(PyTimeoutError::new_err(())),
            None => {
                let getter = Bound::new(py, Future::new(py, LoopRef::running(py)?)?)?;
                let waiting = getter.clone().unbind();
                own.inner.with(py, |inner| inner.getters.push_back(waiting));
                self.stage = Stage::Waits(getter.clone().unbind());
                Ok(Next::Await(getter.into_any()))
            }
        }
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.iterator)?;
        match &self.stage {
            Stage::Begins { .. } => Ok(()),
            Stage::Waits(getter) => visit.call(getter),
        }
    }
}
