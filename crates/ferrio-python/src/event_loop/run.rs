//! Running, stopping, closing.

use ferrio::engine::Flow;
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::EventLoop;
use crate::asyncio;
use crate::convert::Truth;
use crate::ffi::runnable::take_leaving;
use crate::ffi::snapshot;
use crate::ffi::staying::stay;
use crate::ffi::thread::{ReleasingPark, RunsLoop, current_thread};
use crate::futures::awaited_by::is_future;
use crate::tasks::ensure_future;

#[pymethods]
impl EventLoop {
    /// Runs until `stop()` is called.
    ///
    /// Raises RuntimeError if the loop is closed, runs already, or was made before a fork, and what a callback raises
    /// of KeyboardInterrupt and SystemExit; the loop can be run again then, and goes on where it was.
    pub(super) fn run_forever(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        Self::check_runnable(slf)?;
        let running = Running::begin(slf)?;
        let result = Self::turn_until_stopped(slf);
        let ended = running.end();
        debug_assert!(!slf.as_super().get().is_running(py));
        result.and(ended)
    }

    /// Runs until `future` is done, and returns its result. A coroutine is made a task of the loop.
    ///
    /// Raises RuntimeError as `run_forever` does, and if the loop was stopped before the future was done.
    fn run_until_complete<'py>(slf: &Bound<'py, Self>, future: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        Self::check_runnable(slf)?;
        let is_new = !is_future(future)?;
        let future = ensure_future(future, Some(slf.as_any()))?;
        if is_new {
            // Whoever runs the loop has the task; that it is pending when this raises is no news to them.
            future.setattr(intern!(py, "_log_destroy_pending"), false)?;
        }
        let stop = wrap_stop(py)?;
        if future.call_method0(intern!(py, "done"))?.is_truthy()? {
            // Whatever it has ended in: what had left the loop then does not leave it a second time.
            slf.call_method1(intern!(py, "call_soon"), (slf.getattr(intern!(py, "stop"))?,))?;
        } else {
            future.call_method1(intern!(py, "add_done_callback"), (&stop,))?;
        }
        // By its name: a subclass may have its own.
        let result = slf.call_method0(intern!(py, "run_forever"));
        future.call_method1(intern!(py, "remove_done_callback"), (&stop,))?;
        let done = future.call_method0(intern!(py, "done"))?.is_truthy()?;
        if let Err(error) = result {
            if is_new && done && !future.call_method0(intern!(py, "cancelled"))?.is_truthy()? {
                // The exception that is being raised is the task's own: it counts as fetched.
                future.call_method0(intern!(py, "exception"))?;
            }
            return Err(error);
        }
        if !done {
            return Err(PyRuntimeError::new_err("Event loop stopped before Future completed."));
        }
        future.call_method0(intern!(py, "result"))
    }

    /// Ends `run_forever` after the turn that runs now, or after one turn if the loop does not run.
    fn stop(&self, py: Python<'_>) {
        self.stopping.set(py, true);
    }

    /// Whether the loop runs.
    #[pyo3(name = "is_running")]
    fn is_running_method(slf: &Bound<'_, Self>) -> bool {
        slf.as_super().get().is_running(slf.py())
    }

    /// Whether the loop is closed.
    fn is_closed(slf: &Bound<'_, Self>) -> bool {
        slf.as_super().get().closed.get(slf.py())
    }

    #[getter]
    fn _closed(slf: &Bound<'_, Self>) -> bool {
        Self::is_closed(slf)
    }

    #[getter]
    fn _stopping(&self, py: Python<'_>) -> bool {
        self.stopping.get(py)
    }

    /// Who takes a `stop()` back that came too late, as Sanic does before it shuts down, sets it.
    #[setter(_stopping)]
    fn set_stopping(&self, py: Python<'_>, value: Truth) {
        self.stopping.set(py, value.0);
    }

    /// The thread that runs the loop, as `threading.get_ident()` names it.
    #[getter]
    fn _thread_id(slf: &Bound<'_, Self>) -> Option<u64> {
        Some(slf.as_super().get().thread.get(slf.py())).filter(|thread| *thread != 0)
    }

    fn _check_closed(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.as_super().get().check_open(slf.py())
    }

    /// Gives up everything that the loop holds; it does not wait for the default executor. Closing it again does
    /// nothing.
    ///
    /// Raises RuntimeError if the loop runs.
    pub(super) fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let core = slf.as_super().get();
        if core.is_running(py) {
            return Err(PyRuntimeError::new_err("Cannot close a running event loop"));
        }
        if core.closed.get(py) {
            return Ok(());
        }
        let signals = Self::remove_all_signal_handlers(slf);
        core.closed.set(py, true);
        // Dropped here, outside of the engine: what goes with it may run anything.
        drop(core.engine(py).close());
        core.let_go_of_tasks(py);
        drop(slf.get().watched.take(py));
        let executor = slf.get().executor.with(py, |executor| executor.close());
        if let Some(executor) = executor {
            let keywords = PyDict::new(py);
            keywords.set_item(intern!(py, "wait"), false)?;
            executor.bind(py).call_method(intern!(py, "shutdown"), (), Some(&keywords))?;
        }
        signals
    }
}

impl EventLoop {
    fn check_runnable(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        stay();
        let core = slf.as_super().get();
        core.check_open(py)?;
        if core.is_running(py) {
            return Err(PyRuntimeError::new_err("This event loop is already running"));
        }
        if !asyncio::get_running_loop_or_none(py)?.call0()?.is_none() {
            return Err(PyRuntimeError::new_err("Cannot run the event loop while another loop is running"));
        }
        if slf.get().process != std::process::id() {
            return Err(PyRuntimeError::new_err(
                "Cannot run an event loop that was made before a fork: make a new one",
            ));
        }
        Ok(())
    }

    fn turn_until_stopped(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let engine = slf.as_super().get().engine(py);
        let mut park = ReleasingPark(py);
        let _entered = engine.enter();
        let _runs = RunsLoop::begin(py);
        loop {
            if slf.get().stopping.get(py) {
                engine.hurry();
            }
            match engine.run_once(&mut park)? {
                Flow::Continue if slf.get().stopping.get(py) => return Ok(()),
                Flow::Continue => {}
                Flow::Break => return take_leaving().map_or(Ok(()), Err),
            }
        }
    }
}

/// What is different while a loop runs: the thread knows its loop, generators their hooks, signals their pipe.
struct Running<'a, 'py> {
    event_loop: &'a Bound<'py, EventLoop>,
    hooks: Bound<'py, PyTuple>,
}

impl<'a, 'py> Running<'a, 'py> {
    fn begin(event_loop: &'a Bound<'py, EventLoop>) -> PyResult<Self> {
        let py = event_loop.py();
        let core = event_loop.as_super().get();
        EventLoop::hold_wakeup_fd_on_main_thread(event_loop)?;
        let hooks = EventLoop::install_asyncgen_hooks(event_loop)?;
        core.thread.set(py, current_thread());
        EventLoop::track_origins(event_loop, core.debug.get(py))?;
        asyncio::set_running_loop(py)?.call1((event_loop,))?;
        Ok(Self { event_loop, hooks })
    }

    fn end(self) -> PyResult<()> {
        let py = self.event_loop.py();
        let core = self.event_loop.as_super().get();
        core.current().clear(self.event_loop.as_any());
        snapshot::forget(py);
        self.event_loop.get().stopping.set(py, false);
        core.thread.set(py, 0);
        asyncio::set_running_loop(py)?.call1((py.None(),))?;
        EventLoop::track_origins(self.event_loop, false)?;
        EventLoop::restore_asyncgen_hooks(py, &self.hooks)?;
        EventLoop::release_wakeup_fd(self.event_loop)
    }
}

/// Stops the loop of a future that is done, unless it is done by what leaves the loop anyhow.
#[pyfunction(name = "_run_until_complete_cb")]
fn stop_loop_of(future: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = future.py();
    if !future.call_method0(intern!(py, "cancelled"))?.is_truthy()? {
        let exception = future.call_method0(intern!(py, "exception"))?;
        if !exception.is_none() && asyncio::leaves_the_loop(py, &PyErr::from_value(exception)) {
            return Ok(());
        }
    }
    future.call_method0(intern!(py, "get_loop"))?.call_method0(intern!(py, "stop")).map(drop)
}

fn wrap_stop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    Ok(pyo3::wrap_pyfunction!(stop_loop_of, py)?.into_any())
}
