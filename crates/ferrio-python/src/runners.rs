//! `Runner` and `run`: a loop's life from its making to its end, around what a program awaits.
//!
//! The loop is ferrio's unless a factory makes another one, so nothing here looks into it: all of it goes through the
//! methods that every loop has. That the loop is `ferrio.EventLoop`, a class of the Python package, is why it is asked
//! for by name.
//!
//! # Ctrl-C
//!
//! The interpreter's own handler raises KeyboardInterrupt wherever the program happens to be, in the middle of a
//! transport's bookkeeping for instance. While [`Runner::run`] runs, [`Interrupts`] takes its place: the first signal
//! cancels the main task, which unwinds as for any other cancellation, and `run` raises KeyboardInterrupt in the end.
//! The second one raises at once, for a task that does not let itself be cancelled.

use pyo3::exceptions::{PyKeyboardInterrupt, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, intern};

use crate::asyncio;
use crate::coroutine::{Coroutine, await_};
use crate::ffi::cell::{GilCell, GilCopy};
use crate::ffi::context;
use crate::ffi::newborn;
use crate::ffi::staying::stay;
use crate::loop_ref::LoopRef;

/// Seconds that the threads of the default executor have to end: asyncio's number.
const THREAD_JOIN_TIMEOUT: u32 = 300;

/// Runs a program's coroutines on a loop of their own, one after the other (asyncio 3.11).
///
/// The loop is made when the `with` block begins, or by the first `run()` or `get_loop()`: by `loop_factory()`, or
/// ferrio's if that is None, which then is the thread's current loop as well. A `debug` that is not None is the loop's
/// debug mode.
#[pyclass(frozen, subclass, dict, weakref, module = "ferrio")]
pub(crate) struct Runner {
    debug: GilCell<Option<Py<PyAny>>>,
    loop_factory: GilCell<Option<Py<PyAny>>>,
    state: GilCell<State>,
}

enum State {
    Created,
    Open(Embedded),
    Closed,
}

/// What a runner keeps from one run to the next.
struct Embedded {
    event_loop: Py<PyAny>,
    context: Py<PyAny>,
    /// The loop was made the thread's current one, and must not stay it.
    is_set: bool,
}

impl Embedded {
    fn clone_ref(&self, py: Python<'_>) -> Self {
        Self { event_loop: self.event_loop.clone_ref(py), context: self.context.clone_ref(py), is_set: self.is_set }
    }
}

#[pymethods]
impl Runner {
    // What a subclass is called with is its own matter, until it calls `__init__`.
    #[new]
    #[pyo3(signature = (*arguments, **_keywords), text_signature = "(*, debug=None, loop_factory=None)")]
    fn __new__(arguments: &Bound<'_, PyTuple>, _keywords: Option<&Bound<'_, PyDict>>) -> Self {
        newborn::has_dict(arguments.py());
        Self::new(None, None)
    }

    #[pyo3(signature = (*, debug=None, loop_factory=None))]
    fn __init__(&self, py: Python<'_>, debug: Option<Py<PyAny>>, loop_factory: Option<Py<PyAny>>) {
        drop((self.debug.replace(py, debug), self.loop_factory.replace(py, loop_factory)));
    }

    fn __enter__<'py>(slf: Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        Self::open(&slf)?;
        Ok(slf)
    }

    #[pyo3(signature = (*_exc_info))]
    fn __exit__(slf: &Bound<'_, Self>, _exc_info: &Bound<'_, PyTuple>) -> PyResult<()> {
        Self::close(slf)
    }

    /// Ends and closes the loop: cancels every task and waits for them, closes the asynchronous generators, waits for
    /// the default executor's threads (300 seconds at most). Without a loop it does nothing.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let Some(embedded) = slf.get().embedded(py) else { return Ok(()) };
        let event_loop = embedded.event_loop.bind(py);
        let mut result = wind_down(event_loop);
        if embedded.is_set {
            result = chained(py, result, set_event_loop(py, None));
        }
        let closed = event_loop.call_method0(intern!(py, "close"));
        if closed.is_ok() {
            drop(slf.get().state.replace(py, State::Closed));
        }
        chained(py, result, closed)
    }

    /// The loop.
    ///
    /// Raises RuntimeError if the runner is closed.
    fn get_loop(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Ok(Self::open(slf)?.event_loop)
    }

    /// Runs `coro`, any awaitable, as a task of the loop and returns its result.
    ///
    /// The task runs in `context`, or in the one that all runs of this runner share. On Ctrl-C in the main thread it is
    /// cancelled, and KeyboardInterrupt is raised when it has ended; a second Ctrl-C raises it at once. Raises
    /// RuntimeError if a loop runs in this thread or the runner is closed, TypeError if `coro` cannot be awaited.
    #[pyo3(signature = (coro, *, context=None))]
    fn run<'py>(
        slf: &Bound<'py, Self>,
        coro: Bound<'py, PyAny>,
        context: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        refuse_inside_a_loop(py, "Runner.run()")?;
        let embedded = Self::open(slf)?;
        let event_loop = embedded.event_loop.bind(py);
        let coroutine = as_coroutine(coro)?;
        let keywords = PyDict::new(py);
        match &context {
            Some(context) => keywords.set_item(intern!(py, "context"), context)?,
            None => keywords.set_item(intern!(py, "context"), &embedded.context)?,
        }
        let task = event_loop.call_method(intern!(py, "create_task"), (coroutine,), Some(&keywords))?;
        let interrupts = Interrupts::install(event_loop, &task)?;
        let result = event_loop.call_method1(intern!(py, "run_until_complete"), (&task,));
        let Some(interrupts) = interrupts else { return result };
        let result = result.or_else(|error| Err(interrupts.get().judge(error, &task)?));
        chained(py, result, Interrupts::remove(&interrupts))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.debug.traverse(visit, |debug, visit| visit.call(debug))?;
        self.loop_factory.traverse(visit, |factory, visit| visit.call(factory))?;
        self.state.traverse(visit, |state, visit| match state {
            State::Open(embedded) => {
                visit.call(&embedded.event_loop)?;
                visit.call(&embedded.context)
            }
            State::Created | State::Closed => Ok(()),
        })
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        let py = slf.py();
        drop((slf.get().debug.take(py), slf.get().loop_factory.take(py)));
        drop(slf.get().state.replace(py, State::Closed));
    }
}

impl Runner {
    fn new(debug: Option<Py<PyAny>>, loop_factory: Option<Py<PyAny>>) -> Self {
        Self {
            debug: GilCell::new(debug),
            loop_factory: GilCell::new(loop_factory),
            state: GilCell::new(State::Created),
        }
    }

    fn embedded(&self, py: Python<'_>) -> Option<Embedded> {
        self.state.with(py, |state| match state {
            State::Open(embedded) => Some(embedded.clone_ref(py)),
            State::Created | State::Closed => None,
        })
    }

    /// Makes the loop, if that has not been done.
    fn open(slf: &Bound<'_, Self>) -> PyResult<Embedded> {
        let py = slf.py();
        stay();
        if let Some(embedded) = slf.get().embedded(py) {
            return Ok(embedded);
        }
        if slf.get().state.with(py, |state| matches!(state, State::Closed)) {
            return Err(PyRuntimeError::new_err("Runner is closed"));
        }
        let factory = slf.get().loop_factory.clone_ref(py);
        let is_set = factory.is_none();
        let event_loop = match factory {
            Some(factory) => factory.bind(py).call0()?,
            None if FOLLOWS_POLICY.get(py) => asyncio::module(py, "asyncio.events")?.call_method0("new_event_loop")?,
            None => asyncio::module(py, "ferrio")?.call_method0("new_event_loop")?,
        };
        if is_set {
            set_event_loop(py, Some(&event_loop))?;
        }
        if let Some(debug) = slf.get().debug.clone_ref(py) {
            event_loop.call_method1(intern!(py, "set_debug"), (debug,))?;
        }
        let embedded = Embedded { event_loop: event_loop.unbind(), context: context::copy_current(py)?, is_set };
        drop(slf.get().state.replace(py, State::Open(embedded.clone_ref(py))));
        Ok(embedded)
    }
}

/// Whether a runner without a factory asks asyncio for its loop, and so the policy, if the program has set one.
static FOLLOWS_POLICY: GilCopy<bool> = GilCopy::new(false);

/// Has a runner that stands for asyncio's ask the event loop policy for a loop, as asyncio's does.
#[pyfunction]
pub(crate) fn follow_policy(py: Python<'_>, follow: bool) {
    FOLLOWS_POLICY.set(py, follow);
}

/// Runs `main`, any awaitable, on a new loop, closes the loop, and returns the result.
///
/// It is `Runner(debug=debug, loop_factory=loop_factory)` for a single run, and raises what `Runner.run` raises.
#[pyfunction]
#[pyo3(signature = (main, *, debug=None, loop_factory=None))]
pub(crate) fn run<'py>(
    main: Bound<'py, PyAny>,
    debug: Option<Py<PyAny>>,
    loop_factory: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = main.py();
    refuse_inside_a_loop(py, "asyncio.run()")?;
    let runner = newborn::make(py, Runner::new(debug, loop_factory))?.into_bound(py);
    let result = Runner::run(&runner, main, None);
    chained(py, result, Runner::close(&runner))
}

/// Takes the interpreter's place as the handler of SIGINT for one run.
#[pyclass(frozen, module = "ferrio._ferrio")]
struct Interrupts {
    count: GilCopy<u32>,
    /// The loop, and the task that the first signal cancels.
    target: GilCell<Option<(Py<PyAny>, Py<PyAny>)>>,
}

impl Interrupts {
    /// Installs a handler, if this is the main thread and nobody else handles the signal.
    fn install<'py>(event_loop: &Bound<'py, PyAny>, task: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, Self>>> {
        let py = task.py();
        let threading = asyncio::module_used_by("asyncio.runners", intern!(py, "threading"))?;
        if !threading.call_method0("current_thread")?.is(&threading.call_method0("main_thread")?) {
            return Ok(None);
        }
        let signal = asyncio::module_used_by("asyncio.runners", intern!(py, "signal"))?;
        let sigint = signal.getattr("SIGINT")?;
        if !signal.call_method1("getsignal", (&sigint,))?.is(&signal.getattr("default_int_handler")?) {
            return Ok(None);
        }
        let target = Some((event_loop.clone().unbind(), task.clone().unbind()));
        let interrupts = Bound::new(py, Self { count: GilCopy::new(0), target: GilCell::new(target) })?;
        match signal.call_method1("signal", (sigint, &interrupts)) {
            Ok(_) => Ok(Some(interrupts)),
            // The main thread of an embedded interpreter may not be the one that signals are for.
            Err(error) if error.is_instance_of::<PyValueError>(py) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Brings the interpreter's handler back, unless the program has installed one of its own meanwhile.
    fn remove(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let signal = asyncio::module_used_by("asyncio.runners", intern!(py, "signal"))?;
        let sigint = signal.getattr("SIGINT")?;
        if signal.call_method1("getsignal", (&sigint,))?.is(this) {
            signal.call_method1("signal", (sigint, signal.getattr("default_int_handler")?))?;
        }
        Ok(())
    }

    /// What a run that ended in `error` raises: KeyboardInterrupt if it was cancelled by the signal and nothing else.
    fn judge(&self, error: PyErr, task: &Bound<'_, PyAny>) -> PyResult<PyErr> {
        let py = task.py();
        if self.count.get(py) == 0 || !asyncio::cancelled_error::is(error.value(py)) {
            return Ok(error);
        }
        let Some(uncancel) = task.getattr_opt(intern!(py, "uncancel"))? else { return Ok(error) };
        if !uncancel.call0()?.eq(0)? {
            return Ok(error);
        }
        let interrupt = PyKeyboardInterrupt::new_err(());
        interrupt.value(py).setattr(intern!(py, "__context__"), asyncio::exception_of(py, &error))?;
        Ok(interrupt)
    }
}

#[pymethods]
impl Interrupts {
    fn __call__(&self, py: Python<'_>, _signal: &Bound<'_, PyAny>, _frame: &Bound<'_, PyAny>) -> PyResult<()> {
        let count = self.count.get(py).saturating_add(1);
        self.count.set(py, count);
        let target = self.target.with(py, |target| {
            target.as_ref().map(|(event_loop, task)| (event_loop.clone_ref(py), task.clone_ref(py)))
        });
        if let Some((event_loop, task)) = target
            && count == 1
            && !task.bind(py).call_method0(intern!(py, "done"))?.is_truthy()?
        {
            task.bind(py).call_method0(intern!(py, "cancel"))?;
            // A foreign loop may be in a wait that the signal interrupts and that goes on by itself.
            let nothing = pyo3::wrap_pyfunction!(nothing, py)?;
            event_loop.bind(py).call_method1(intern!(py, "call_soon_threadsafe"), (nothing,))?;
            return Ok(());
        }
        Err(PyKeyboardInterrupt::new_err(()))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.target.traverse(visit, |target, visit| match target {
            Some((event_loop, task)) => {
                visit.call(event_loop)?;
                visit.call(task)
            }
            None => Ok(()),
        })
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        drop(slf.get().target.take(slf.py()));
    }
}

#[pyfunction]
fn nothing() {}

/// # Errors
///
/// `RuntimeError` if a loop, of whatever make, runs in this thread.
fn refuse_inside_a_loop(py: Python<'_>, what: &str) -> PyResult<()> {
    if asyncio::get_running_loop_or_none(py)?.call0()?.is_none() {
        return Ok(());
    }
    Err(PyRuntimeError::new_err(format!("{what} cannot be called from a running event loop")))
}

/// `awaitable` as what a task can run: itself if it is a coroutine, else a coroutine that awaits it.
///
/// # Errors
///
/// `TypeError` if it cannot be awaited.
fn as_coroutine(awaitable: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
    let py = awaitable.py();
    if asyncio::iscoroutine(py)?.call1((&awaitable,))?.is_truthy()? {
        return Ok(awaitable);
    }
    if !asyncio::module(py, "inspect")?.call_method1("isawaitable", (&awaitable,))?.is_truthy()? {
        return Err(PyTypeError::new_err("An asyncio.Future, a coroutine or an awaitable is required"));
    }
    let awaitable = awaitable.unbind();
    Ok(Coroutine::new(py, "_wrap_awaitable", await_(awaitable))?.into_any())
}

fn set_event_loop(py: Python<'_>, event_loop: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
    asyncio::module(py, "asyncio.events")?.call_method1("set_event_loop", (event_loop,)).map(drop)
}

/// Runs the loop until all that was begun on it has ended.
fn wind_down(event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = event_loop.py();
    let run = |coroutine: Bound<'_, PyAny>| {
        event_loop.call_method1(intern!(py, "run_until_complete"), (coroutine,)).map(drop)
    };
    cancel_all_tasks(event_loop)?;
    run(event_loop.call_method0(intern!(py, "shutdown_asyncgens"))?)?;
    let shutdown = intern!(py, "shutdown_default_executor");
    // The argument came with Python 3.12, and foreign loops followed.
    let takes_timeout = LoopRef::new(event_loop).ours().is_some() || py.version_info() >= (3, 12);
    run(if takes_timeout {
        event_loop.call_method1(shutdown, (THREAD_JOIN_TIMEOUT,))?
    } else {
        event_loop.call_method0(shutdown)?
    })
}

fn cancel_all_tasks(event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = event_loop.py();
    let module = asyncio::module(py, "asyncio.tasks")?;
    let tasks = module.call_method1("all_tasks", (event_loop,))?.try_iter()?.collect::<PyResult<Vec<_>>>()?;
    if tasks.is_empty() {
        return Ok(());
    }
    for task in &tasks {
        task.call_method0(intern!(py, "cancel"))?;
    }
    let keywords = PyDict::new(py);
    keywords.set_item("return_exceptions", true)?;
    let all = module.call_method("gather", PyTuple::new(py, &tasks)?, Some(&keywords))?;
    event_loop.call_method1(intern!(py, "run_until_complete"), (all,))?;
    for task in &tasks {
        if task.call_method0(intern!(py, "cancelled"))?.is_truthy()? {
            continue;
        }
        let exception = task.call_method0(intern!(py, "exception"))?;
        if !exception.is_none() {
            let context = PyDict::new(py);
            context.set_item("message", "unhandled exception during asyncio.run() shutdown")?;
            context.set_item("exception", exception)?;
            context.set_item("task", task)?;
            event_loop.call_method1(intern!(py, "call_exception_handler"), (context,))?;
        }
    }
    Ok(())
}

/// What a `finally` block that ended in `last` makes of `result`: its error comes first, with the other as its context.
fn chained<T, U>(py: Python<'_>, result: PyResult<T>, last: PyResult<U>) -> PyResult<T> {
    match (result, last) {
        (result, Ok(_)) => result,
        (Ok(_), Err(last)) => Err(last),
        (Err(error), Err(last)) => {
            let value = last.value(py);
            if !value.is(error.value(py)) && value.getattr(intern!(py, "__context__"))?.is_none() {
                value.setattr(intern!(py, "__context__"), asyncio::exception_of(py, &error))?;
            }
            Err(last)
        }
    }
}
