//! All that a future, a task, a handle or a transport may ask of its loop.
//!
//! [`LoopCore`] is the part of `ferrio.EventLoop` that they see: the engine and a few words of state, with no methods
//! for Python. `EventLoop` extends it, and nothing below `event_loop` needs to know how. A [`LoopRef`] is a loop of
//! either kind, ours or somebody else's; what is fused with the engine for the one goes through `call_soon` for the
//! other.

use std::rc::Rc;

use ferrio::engine::{self, Flow, Nanos, Runnable, TimerKey};
use pyo3::PyTraverseError;
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat, PyList, PyTuple, PyWeakrefMethods, PyWeakrefReference};
use slab::Slab;

use crate::asyncio;
use crate::current::CurrentTask;
use crate::descriptors::Descriptors;
use crate::ffi::cell::{GilBound, GilCell, GilCopy};
use crate::ffi::handled::handling;
use crate::ffi::raise::settled;
use crate::ffi::runnable::{self, Job, leave};
use crate::ffi::staying::stay;
use crate::ffi::thread::current_thread;

/// What ferrio's own classes know of ferrio's loop.
#[pyclass(frozen, subclass, dict, weakref, module = "ferrio._ferrio")]
pub(crate) struct LoopCore {
    engine: GilBound<Rc<engine::EventLoop>>,
    pub(crate) closed: GilCopy<bool>,
    pub(crate) debug: GilCopy<bool>,
    /// The thread that runs the loop, by the number that `threading.get_ident()` gives it; 0 while it does not run.
    pub(crate) thread: GilCopy<u64>,
    /// Every unfinished task, so that none is lost because nobody else keeps it.
    tasks: GilCell<Slab<Py<PyAny>>>,
    /// Whether the loop is among [`LOOPS`].
    listed: GilCopy<bool>,
    current: CurrentTask,
    descriptors: Descriptors,
    /// Seconds, see `slow_callback_duration`.
    pub(crate) slow_callback_duration: GilCopy<f64>,
    /// The handle that runs now, in debug mode: a report can say where it was made.
    pub(crate) running_handle: GilCell<Option<Py<PyAny>>>,
}

impl LoopCore {
    pub(crate) fn new(engine: Rc<engine::EventLoop>, debug: bool) -> Self {
        Self {
            engine: GilBound::engine(engine),
            closed: GilCopy::new(false),
            debug: GilCopy::new(debug),
            thread: GilCopy::new(0),
            tasks: GilCell::default(),
            listed: GilCopy::new(false),
            current: CurrentTask::default(),
            descriptors: Descriptors::default(),
            slow_callback_duration: GilCopy::new(0.1),
            running_handle: GilCell::default(),
        }
    }

    #[inline]
    pub(crate) fn engine(&self, py: Python<'_>) -> &Rc<engine::EventLoop> {
        self.engine.get(py)
    }

    /// Queues `runnable` for the next turn.
    #[inline]
    pub(crate) fn push(&self, py: Python<'_>, runnable: Runnable) {
        self.engine.get(py).push(runnable);
    }

    /// Keeps `task` alive until it is given back by its number.
    pub(crate) fn adopt(this: &Bound<'_, Self>, task: &Bound<'_, PyAny>) -> PyResult<usize> {
        let py = task.py();
        let core = this.get();
        if !core.listed.get(py) {
            Self::list(this)?;
        }
        let task = task.clone().unbind();
        Ok(core.tasks.with(py, |tasks| tasks.insert(task)))
    }

    /// Puts the loop among those that [`unfinished_tasks`] asks.
    #[cold]
    fn list(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let reference = PyWeakrefReference::new(this)?.unbind();
        this.get().listed.set(py, true);
        let gone = LOOPS.with(py, |loops| {
            let is_gone = |reference: &mut Py<PyWeakrefReference>| reference.bind(py).upgrade().is_none();
            let gone: Vec<_> = loops.extract_if(.., is_gone).collect();
            loops.push(reference);
            gone
        });
        drop(gone);
        Ok(())
    }

    /// Gives back a task that is done.
    pub(crate) fn release(&self, py: Python<'_>, number: usize) -> Option<Py<PyAny>> {
        self.tasks.with(py, |tasks| tasks.try_remove(number))
    }

    /// For a loop that closes: its tasks live on for as long as somebody else keeps them, and as asyncio's own do
    /// anyhow, they are to be seen in `all_tasks()` until then. Runs Python code.
    pub(crate) fn let_go_of_tasks(&self, py: Python<'_>) {
        for (_, task) in self.tasks.take(py) {
            // It can only fail where the interpreter ends, and nobody is left to ask.
            _ = asyncio::register_task(py).and_then(|register| register.call1((task,)));
        }
    }

    /// The tasks that are not done.
    pub(crate) fn tasks(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        self.tasks.with(py, |tasks| tasks.iter().map(|(_, task)| task.clone_ref(py)).collect())
    }

    /// The task that this loop runs now, as the rest of Python sees it.
    #[inline]
    pub(crate) fn current(&self) -> &CurrentTask {
        &self.current
    }

    /// Which descriptors belong to transports.
    #[inline]
    pub(crate) fn descriptors(&self) -> &Descriptors {
        &self.descriptors
    }

    /// Whether the loop runs, on whatever thread.
    #[inline]
    pub(crate) fn is_running(&self, py: Python<'_>) -> bool {
        self.thread.get(py) != 0
    }

    /// Whether the loop runs on this thread, which makes it the running loop.
    #[inline]
    pub(crate) fn runs_here(&self, py: Python<'_>) -> bool {
        self.thread.get(py) == current_thread()
    }

    /// # Errors
    ///
    /// `RuntimeError` if the loop is closed.
    #[inline]
    pub(crate) fn check_open(&self, py: Python<'_>) -> PyResult<()> {
        if self.closed.get(py) { Err(PyRuntimeError::new_err("Event loop is closed")) } else { Ok(()) }
    }

    /// What `call_soon` checks, for work that is queued without it.
    ///
    /// # Errors
    ///
    /// `RuntimeError` if the loop is closed, or in debug mode if it runs on another thread.
    #[inline]
    pub(crate) fn admit(&self, py: Python<'_>) -> PyResult<()> {
        self.check_open(py)?;
        if self.debug.get(py) { self.check_thread(py) } else { Ok(()) }
    }

    /// # Errors
    ///
    /// `RuntimeError` if the loop runs on another thread.
    pub(crate) fn check_thread(&self, py: Python<'_>) -> PyResult<()> {
        let thread = self.thread.get(py);
        if thread != 0 && thread != current_thread() {
            let text = "Non-thread-safe operation invoked on an event loop other than the current one";
            return Err(PyRuntimeError::new_err(text));
        }
        Ok(())
    }
}

#[pymethods]
impl LoopCore {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.tasks.traverse(visit, |tasks, visit| tasks.iter().try_for_each(|(_, task)| visit.call(task)))?;
        self.descriptors.traverse(visit)?;
        self.running_handle.traverse(visit, |handle, visit| visit.call(handle))?;
        let mut result = Ok(());
        self.engine.get_in_traverse(&visit).for_each(|queued| {
            if result.is_ok() {
                result = runnable::traverse(queued, visit);
            }
        });
        result
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        drop(slf.get().tasks.take(slf.py()));
    }
}

/// Every loop that ever had a task and is still there.
static LOOPS: GilCell<Vec<Py<PyWeakrefReference>>> = GilCell::new(Vec::new());

/// The tasks that loops of ours keep, for `asyncio.all_tasks`.
#[pyfunction]
pub(crate) fn unfinished_tasks(py: Python<'_>) -> PyResult<Bound<'_, PyList>> {
    let loops: Vec<_> = LOOPS.with(py, |loops| loops.iter().map(|reference| reference.clone_ref(py)).collect());
    let mut tasks = Vec::new();
    for reference in loops {
        if let Some(core) = reference.bind(py).upgrade() {
            tasks.extend(core.cast::<LoopCore>()?.get().tasks(py));
        }
    }
    PyList::new(py, tasks)
}

/// A loop: ours, or one that is known by its methods only.
#[derive(Debug)]
pub(crate) enum LoopRef {
    Ours(Py<LoopCore>),
    Foreign(Py<PyAny>),
}

impl LoopRef {
    /// Looks at what kind of loop `object` is.
    pub(crate) fn new(object: &Bound<'_, PyAny>) -> Self {
        match object.cast::<LoopCore>() {
            Ok(ours) => Self::Ours(ours.clone().unbind()),
            Err(_) => {
                // A thread that runs it calls us, and we its methods.
                stay();
                Self::Foreign(object.clone().unbind())
            }
        }
    }

    #[inline]
    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Ours(ours) => Self::Ours(ours.clone_ref(py)),
            Self::Foreign(foreign) => Self::Foreign(foreign.clone_ref(py)),
        }
    }

    /// Gives the reference up, at once.
    #[inline]
    pub(crate) fn dispose(self, py: Python<'_>) {
        match self {
            Self::Ours(ours) => drop(ours.into_bound(py)),
            Self::Foreign(foreign) => drop(foreign.into_bound(py)),
        }
    }

    /// The loop as an object.
    #[inline]
    pub(crate) fn bind<'a, 'py>(&'a self, py: Python<'py>) -> &'a Bound<'py, PyAny> {
        match self {
            Self::Ours(ours) => ours.bind(py).as_any(),
            Self::Foreign(foreign) => foreign.bind(py),
        }
    }

    /// Our loop's core, if it is ours.
    #[inline]
    pub(crate) fn ours(&self) -> Option<&LoopCore> {
        match self {
            Self::Ours(ours) => Some(ours.get()),
            Self::Foreign(_) => None,
        }
    }

    /// Whether both are the same loop.
    #[inline]
    pub(crate) fn is(&self, py: Python<'_>, other: &Self) -> bool {
        self.bind(py).is(other.bind(py))
    }

    /// Whether the loop is in debug mode. Runs Python code for a foreign loop.
    pub(crate) fn debug(&self, py: Python<'_>) -> PyResult<bool> {
        match self {
            Self::Ours(ours) => Ok(ours.get().debug.get(py)),
            Self::Foreign(foreign) => foreign.bind(py).call_method0(intern!(py, "get_debug"))?.is_truthy(),
        }
    }

    /// Whether the loop runs. Runs Python code for a foreign loop.
    pub(crate) fn is_running(&self, py: Python<'_>) -> PyResult<bool> {
        match self {
            Self::Ours(ours) => Ok(ours.get().is_running(py)),
            Self::Foreign(foreign) => foreign.bind(py).call_method0(intern!(py, "is_running"))?.is_truthy(),
        }
    }

    /// The loop that runs on this thread.
    ///
    /// # Errors
    ///
    /// `RuntimeError` if there is none.
    #[inline]
    pub(crate) fn running(py: Python<'_>) -> PyResult<Self> {
        asyncio::running_loop(py).map(|running| Self::new(&running))
    }

    /// Seconds on the loop's clock. Runs Python code for a foreign loop.
    pub(crate) fn time(&self, py: Python<'_>) -> PyResult<f64> {
        match self {
            Self::Ours(ours) => Ok(seconds(ours.get().engine(py).clock().now())),
            Self::Foreign(foreign) => foreign.bind(py).call_method0(intern!(py, "time"))?.extract(),
        }
    }

    /// Has `object` run as `J` when its time comes. A foreign loop calls what `call` returns, a callable and its
    /// arguments, instead.
    pub(crate) fn set_timer<'py, J: Job>(
        &self,
        object: &Bound<'py, J::Class>,
        due: Due,
        call: impl FnOnce(Python<'py>) -> PyResult<(Bound<'py, PyAny>, Vec<Bound<'py, PyAny>>)>,
    ) -> PyResult<Timer> {
        let py = object.py();
        match self {
            Self::Ours(ours) => {
                ours.get().admit(py)?;
                let when = match due {
                    Due::At(when) => when,
                    Due::After(delay) => self.time(py)? + delay,
                };
                let key = ours.get().engine(py).push_at(nanos(when), runnable::runnable::<J>(object.clone().unbind()));
                Ok(Timer(TimerOf::Ours(ours.clone_ref(py), key)))
            }
            Self::Foreign(foreign) => {
                let (callable, arguments) = call(py)?;
                let (method, seconds) = match due {
                    Due::At(when) => (intern!(py, "call_at"), when),
                    Due::After(delay) => (intern!(py, "call_later"), delay),
                };
                let arguments = [PyFloat::new(py, seconds).into_any(), callable].into_iter().chain(arguments);
                let arguments = PyTuple::new(py, arguments.collect::<Vec<_>>())?;
                let handle = foreign.bind(py).call_method1(method, arguments)?;
                Ok(Timer(TimerOf::Foreign(handle.unbind())))
            }
        }
    }

    /// `loop.call_soon(callback[, argument], context=context)` of a foreign loop. Runs Python code.
    pub(crate) fn call_soon<'py>(
        loop_object: &Bound<'py, PyAny>,
        callback: &Bound<'py, PyAny>,
        argument: Option<&Bound<'py, PyAny>>,
        context: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = loop_object.py();
        let arguments = match argument {
            Some(argument) => PyTuple::new(py, [callback, argument])?,
            None => PyTuple::new(py, [callback])?,
        };
        let keywords = PyDict::new(py);
        if let Some(context) = context {
            keywords.set_item(intern!(py, "context"), context)?;
        }
        loop_object.call_method(intern!(py, "call_soon"), arguments, Some(&keywords))
    }

    pub(crate) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Ours(ours) => visit.call(ours),
            Self::Foreign(foreign) => visit.call(foreign),
        }
    }
}

/// When a timer is due, in seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Due {
    /// On the loop's clock.
    At(f64),
    /// From now on.
    After(f64),
}

/// A timer that was set on a loop of either kind.
#[derive(Debug)]
pub(crate) struct Timer(TimerOf);

#[derive(Debug)]
enum TimerOf {
    Ours(Py<LoopCore>, TimerKey),
    Foreign(Py<PyAny>),
}

impl Timer {
    /// What a foreign loop's `handle` stands for.
    pub(crate) fn foreign(handle: Bound<'_, PyAny>) -> Self {
        Self(TimerOf::Foreign(handle.unbind()))
    }

    /// Takes the timer back, unless it has fired. Runs Python code for a foreign loop.
    pub(crate) fn cancel(self, py: Python<'_>) -> PyResult<()> {
        match self.0 {
            TimerOf::Ours(core, key) => {
                drop(core.get().engine(py).cancel_timer(key));
                Ok(())
            }
            TimerOf::Foreign(handle) => handle.bind(py).call_method0(intern!(py, "cancel")).map(drop),
        }
    }

    pub(crate) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match &self.0 {
            TimerOf::Ours(core, _) => visit.call(core),
            TimerOf::Foreign(handle) => visit.call(handle),
        }
    }
}

/// Nanoseconds of a loop's clock, as seconds.
pub(crate) fn seconds(nanos: Nanos) -> f64 {
    nanos as f64 / 1e9
}

/// The first nanosecond that is not before `seconds`. What is beyond the clock's range is its end; what is no number is
/// due at once.
pub(crate) fn nanos(seconds: f64) -> Nanos {
    (seconds * 1e9).ceil() as Nanos
}

/// Hands the report of an error that was just caught to the loop's exception handler, as a `dict` of `entries`. Runs
/// Python code, to which the error is what `sys.exception()` says.
///
/// What must leave the loop leaves it; other errors of the handler's own machinery have been logged by it.
pub(crate) fn report(loop_object: &Bound<'_, PyAny>, entries: &[(&str, Bound<'_, PyAny>)]) -> Flow {
    try_report(loop_object, entries).map_or_else(leave, |()| Flow::Continue)
}

/// As [`report`], for who is called by Python.
///
/// # Errors
///
/// What must leave the loop.
pub(crate) fn try_report(loop_object: &Bound<'_, PyAny>, entries: &[(&str, Bound<'_, PyAny>)]) -> PyResult<()> {
    match entries.iter().find(|(key, _)| *key == "exception") {
        Some((_, exception)) => handling(exception, || try_report_kept(loop_object, entries)),
        None => try_report_kept(loop_object, entries),
    }
}

/// As [`report`], of an error that somebody has kept, such as a future that nobody asked for its exception.
pub(crate) fn report_kept(loop_object: &Bound<'_, PyAny>, entries: &[(&str, Bound<'_, PyAny>)]) -> Flow {
    try_report_kept(loop_object, entries).map_or_else(leave, |()| Flow::Continue)
}

/// As [`report_kept`], for who is called by Python.
///
/// # Errors
///
/// What must leave the loop.
pub(crate) fn try_report_kept(loop_object: &Bound<'_, PyAny>, entries: &[(&str, Bound<'_, PyAny>)]) -> PyResult<()> {
    let py = loop_object.py();
    let result = (|| {
        let context = PyDict::new(py);
        for (key, value) in entries {
            context.set_item(key, value)?;
        }
        loop_object.call_method1(intern!(py, "call_exception_handler"), (context,))
    })();
    match result.map_err(|error| settled(py, error)) {
        Ok(_) => Ok(()),
        Err(error) if asyncio::leaves_the_loop(py, &error) => Err(error),
        Err(error) => {
            error.write_unraisable(py, Some(loop_object));
            Ok(())
        }
    }
}
