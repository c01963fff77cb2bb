//! Threads for what blocks: the default executor and how it ends.

use ferrio::engine::TimerKey;
use pyo3::exceptions::{PyBaseException, PyRuntimeError, PyRuntimeWarning, PyTypeError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyTuple};
use pyo3::{PyTraverseError, intern};

use super::EventLoop;
use super::schedule::check_callback;
use super::weak_loop::WeakLoop;
use crate::asyncio;
use crate::coroutine::{Coroutine, await_};
use crate::ffi::number::to_f64;
use crate::ffi::raise::raised;
use crate::ffi::runnable::runnable;
use crate::ffi::staying::stay;
use crate::futures::Future;
use crate::loop_ref::nanos;
use crate::tasks::{Resolve, wrap_future};

#[derive(Default)]
pub(super) struct Executor {
    default: Option<Py<PyAny>>,
    shut_down: bool,
}

impl Executor {
    /// Gives up the default executor, and makes no new one.
    pub(super) fn close(&mut self) -> Option<Py<PyAny>> {
        self.shut_down = true;
        self.default.take()
    }

    pub(super) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.default)
    }
}

#[pymethods]
impl EventLoop {
    /// Has `func(*args)` called by `executor`, or by the default one if it is None; returns a future of its result.
    ///
    /// Raises RuntimeError if the loop, or the default executor, is shut down.
    #[pyo3(signature = (executor, func, *args))]
    fn run_in_executor<'py>(
        slf: &Bound<'py, Self>,
        executor: Option<Bound<'py, PyAny>>,
        func: Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        slf.as_super().get().check_open(py)?;
        if slf.as_super().get().debug.get(py) {
            check_callback(&func, "run_in_executor")?;
        }
        let executor = match executor {
            Some(executor) => executor,
            None => Self::default_executor(slf)?,
        };
        let arguments = PyTuple::new(py, std::iter::once(func).chain(args.iter()).collect::<Vec<_>>())?;
        let submitted = executor.call_method1(intern!(py, "submit"), arguments)?;
        wrap_future(&submitted, slf.as_any())
    }

    /// Makes `executor` the default one.
    ///
    /// Raises TypeError if it is no `concurrent.futures.ThreadPoolExecutor`.
    fn set_default_executor(&self, executor: Bound<'_, PyAny>) -> PyResult<()> {
        let py = executor.py();
        if !executor.is_instance(&asyncio::module(py, "concurrent.futures")?.getattr("ThreadPoolExecutor")?)? {
            return Err(PyTypeError::new_err("executor must be ThreadPoolExecutor instance"));
        }
        let executor = executor.unbind();
        drop(self.executor.with(py, |own| own.default.replace(executor)));
        Ok(())
    }

    /// Waits for the default executor's threads, at most `timeout` seconds (asyncio 3.12), and refuses new work for it.
    #[pyo3(signature = (timeout=None))]
    fn shutdown_default_executor<'py>(
        slf: &Bound<'py, Self>,
        timeout: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, Coroutine>> {
        let event_loop = WeakLoop::new(slf)?;
        Coroutine::new(slf.py(), "BaseEventLoop.shutdown_default_executor", async move {
            let begun = Python::attach(|py| Shutdown::begin(&event_loop.get(py)?, timeout.as_ref()))?;
            let Some((shutdown, done)) = begun else { return Python::attach(|py| Ok(py.None())) };
            let result = await_(done).await;
            Python::attach(|py| shutdown.end(py, &event_loop, result, timeout.as_ref()))
        })
    }

    #[getter]
    fn _default_executor(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.executor.with(py, |own| own.default.as_ref().map(|executor| executor.clone_ref(py)))
    }
}

/// One wait for the default executor to end: a thread joins its threads, a timer may come first.
struct Shutdown {
    executor: Py<PyAny>,
    thread: Py<PyAny>,
    timer: Option<TimerKey>,
}

impl Shutdown {
    /// Begins to wait, if there is an executor. The future is true once it has ended, None once the time is up.
    fn begin(event_loop: &Bound<'_, EventLoop>, timeout: Option<&Py<PyAny>>) -> PyResult<Option<(Self, Py<PyAny>)>> {
        let py = event_loop.py();
        let executor = event_loop.get().executor.with(py, |own| {
            own.shut_down = true;
            own.default.as_ref().map(|executor| executor.clone_ref(py))
        });
        let Some(executor) = executor else { return Ok(None) };
        let timeout = timeout.map(|timeout| to_f64(timeout.bind(py))).transpose()?;
        let done = Bound::new(py, Future::new(py, EventLoop::loop_ref(event_loop))?)?;
        let settle = pyo3::wrap_pyfunction!(settle, py)?;
        let timer = timeout.map(|timeout| {
            let engine = event_loop.as_super().get().engine(py);
            let when = engine.clock().now().saturating_add(nanos(timeout));
            engine.push_at(when, runnable::<Resolve>(done.clone().unbind()))
        });
        let join = {
            let (event_loop, executor) = (event_loop.clone().unbind(), executor.clone_ref(py));
            let (done, settle) = (done.clone().unbind(), settle.unbind());
            move |arguments: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| -> PyResult<()> {
                let py = arguments.py();
                stay();
                let joined = executor.bind(py).call_method0(intern!(py, "shutdown"));
                let outcome = match joined {
                    Ok(_) => true.into_pyobject(py)?.to_owned().into_any(),
                    Err(error) => raised(py, error).into_any(),
                };
                if event_loop.bind(py).as_super().get().closed.get(py) {
                    return Ok(());
                }
                let arguments = (&settle, &done, outcome);
                event_loop.bind(py).call_method1(intern!(py, "call_soon_threadsafe"), arguments).map(drop)
            }
        };
        let keywords = PyDict::new(py);
        keywords.set_item("target", PyCFunction::new_closure(py, None, None, join)?)?;
        let thread = asyncio::module_used_by("asyncio.base_events", intern!(py, "threading"))?.call_method(
            "Thread",
            (),
            Some(&keywords),
        )?;
        thread.call_method0("start")?;
        Ok(Some((Self { executor, thread: thread.unbind(), timer }, done.into_any().unbind())))
    }

    fn end(
        self,
        py: Python<'_>,
        event_loop: &WeakLoop,
        result: PyResult<Py<PyAny>>,
        timeout: Option<&Py<PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        if let (Some(timer), Ok(event_loop)) = (self.timer, event_loop.get(py)) {
            drop(event_loop.as_super().get().engine(py).cancel_timer(timer));
        }
        if result?.is_truthy(py)? {
            self.thread.bind(py).call_method0("join")?;
            return Ok(py.None());
        }
        let timeout = timeout.map_or_else(|| py.None().into_bound(py), |timeout| timeout.bind(py).clone()).str()?;
        let text = format!("The executor did not finishing joining its threads within {timeout} seconds.");
        asyncio::module(py, "warnings")?.call_method1("warn", (text, py.get_type::<PyRuntimeWarning>(), 2))?;
        let keywords = PyDict::new(py);
        keywords.set_item("wait", false)?;
        self.executor.bind(py).call_method("shutdown", (), Some(&keywords))?;
        Ok(py.None())
    }
}

/// Gives a future its outcome, an exception or a value, unless it has one.
#[pyfunction]
fn settle(future: &Bound<'_, Future>, outcome: Bound<'_, PyAny>) -> PyResult<()> {
    if !future.get().is_pending(future.py()) {
        return Ok(());
    }
    if outcome.is_instance_of::<PyBaseException>() {
        Future::reject(future, outcome)
    } else {
        Future::resolve(future, outcome)
    }
}

impl EventLoop {
    fn default_executor<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let (shut_down, executor) = slf
            .get()
            .executor
            .with(py, |own| (own.shut_down, own.default.as_ref().map(|executor| executor.clone_ref(py))));
        if shut_down {
            return Err(PyRuntimeError::new_err("Executor shutdown has been called"));
        }
        if let Some(executor) = executor {
            return Ok(executor.into_bound(py));
        }
        let keywords = PyDict::new(py);
        keywords.set_item("thread_name_prefix", "asyncio")?;
        let executor =
            asyncio::module(py, "concurrent.futures")?.call_method("ThreadPoolExecutor", (), Some(&keywords))?;
        let kept = executor.clone().unbind();
        slf.get().executor.with(py, |own| own.default = Some(kept));
        Ok(executor)
    }
}
