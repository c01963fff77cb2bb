//! `call_soon` and its family, time.

use ferrio::engine::Nanos;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::EventLoop;
use crate::asyncio;
use crate::ffi::runnable::{runnable, send_runnable};
use crate::ffi::thread::current_thread;
use crate::handles::{Arguments, Handle, RunHandle, RunTimer, TimerHandle};
use crate::loop_ref::{LoopCore, LoopRef};

#[pymethods]
impl EventLoop {
    /// Has `callback(*args)` called in the next turn, in `context` or a copy of the current one.
    ///
    /// Raises RuntimeError if the loop is closed.
    #[pyo3(signature = (callback, *args, context=None))]
    fn call_soon<'py>(
        slf: &Bound<'py, Self>,
        callback: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
        context: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Handle>> {
        let py = slf.py();
        let core = slf.as_super().get();
        core.admit(py)?;
        let handle = Self::make_handle(slf, callback, args, context, "call_soon")?;
        let handle = Bound::new(py, handle)?;
        core.push(py, runnable::<RunHandle>(handle.clone().unbind()));
        Ok(handle)
    }

    /// `call_soon` for other threads, and for signal handlers. Wakes the loop if it sleeps.
    ///
    /// Raises RuntimeError if the loop is closed.
    #[pyo3(signature = (callback, *args, context=None))]
    pub(super) fn call_soon_threadsafe<'py>(
        slf: &Bound<'py, Self>,
        callback: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
        context: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Handle>> {
        let py = slf.py();
        let core = slf.as_super().get();
        core.check_open(py)?;
        let handle = Self::make_handle(slf, callback, args, context, "call_soon_threadsafe")?;
        let handle = Bound::new(py, handle)?;
        let thread = core.thread.get(py);
        if thread == 0 || thread == current_thread() {
            // Straight into the queue, so that the order of calls is kept. A signal handler that runs inside the loop's
            // wait comes here too: the wait ends with it, and the turn goes on.
            core.push(py, runnable::<RunHandle>(handle.clone().unbind()));
        } else if core.engine(py).handle().inject(send_runnable::<RunHandle>(handle.clone().unbind())).is_err() {
            core.check_open(py)?;
        }
        Ok(handle)
    }

    /// Has `callback(*args)` called `delay` seconds from now. A negative delay is due at once, before a later one.
    ///
    /// Raises RuntimeError if the loop is closed, TypeError if there is no delay.
    #[pyo3(signature = (delay, callback, *args, context=None))]
    fn call_later<'py>(
        slf: &Bound<'py, Self>,
        delay: Option<f64>,
        callback: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
        context: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, TimerHandle>> {
        let Some(delay) = delay else { return Err(PyTypeError::new_err("delay must not be None")) };
        let when = seconds(slf.as_super().get().engine(slf.py()).clock().now()) + delay;
        Self::set_timer(slf, when, callback, args, context, "call_later")
    }

    /// Has `callback(*args)` called at `when`, in seconds on the loop's clock; equal times are served in order.
    ///
    /// Raises RuntimeError if the loop is closed, TypeError if there is no time.
    #[pyo3(signature = (when, callback, *args, context=None))]
    fn call_at<'py>(
        slf: &Bound<'py, Self>,
        when: Option<f64>,
        callback: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
        context: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, TimerHandle>> {
        let Some(when) = when else { return Err(PyTypeError::new_err("when cannot be None")) };
        Self::set_timer(slf, when, callback, args, context, "call_at")
    }

    /// Seconds on the loop's clock, which is `time.monotonic()`.
    fn time(slf: &Bound<'_, Self>) -> f64 {
        seconds(slf.as_super().get().engine(slf.py()).clock().now())
    }
}

impl EventLoop {
    #[inline]
    pub(super) fn make_handle(
        slf: &Bound<'_, Self>,
        callback: Bound<'_, PyAny>,
        args: Bound<'_, PyTuple>,
        context: Option<Bound<'_, PyAny>>,
        method: &str,
    ) -> PyResult<Handle> {
        let py = slf.py();
        let core: &Bound<'_, LoopCore> = slf.as_super();
        if core.get().debug.get(py) {
            check_callback(&callback, method)?;
        }
        let loop_ref = LoopRef::Ours(core.clone().unbind());
        Handle::new(py, loop_ref, callback.unbind(), Arguments::new(args), context.map(Bound::unbind))
    }

    fn set_timer<'py>(
        slf: &Bound<'py, Self>,
        when: f64,
        callback: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
        context: Option<Bound<'py, PyAny>>,
        method: &str,
    ) -> PyResult<Bound<'py, TimerHandle>> {
        let py = slf.py();
        let core = slf.as_super().get();
        core.admit(py)?;
        let handle = Self::make_handle(slf, callback, args, context, method)?;
        let timer = TimerHandle::create(py, handle, when)?;
        let key = core.engine(py).push_at(nanos(when), runnable::<RunTimer>(timer.clone().unbind()));
        timer.get().set_key(py, key);
        Ok(timer)
    }
}

/// # Errors
///
/// `TypeError` if `callback` is a coroutine, a coroutine function, or nothing that can be called.
pub(super) fn check_callback(callback: &Bound<'_, PyAny>, method: &str) -> PyResult<()> {
    let py = callback.py();
    let is_function = py.import("inspect")?.call_method1("iscoroutinefunction", (callback,))?.is_truthy()?;
    if is_function || asyncio::iscoroutine(py)?.call1((callback,))?.is_truthy()? {
        return Err(PyTypeError::new_err(format!("coroutines cannot be used with {method}()")));
    }
    if !callback.is_callable() {
        let text = format!("a callable object was expected by {method}(), got {}", callback.repr()?);
        return Err(PyTypeError::new_err(text));
    }
    Ok(())
}

fn seconds(nanos: Nanos) -> f64 {
    nanos as f64 / 1e9
}

/// The first nanosecond that is not before `seconds`. What is beyond the clock's range is its end; what is no number is
/// due at once.
fn nanos(seconds: f64) -> Nanos {
    (seconds * 1e9).ceil() as Nanos
}
