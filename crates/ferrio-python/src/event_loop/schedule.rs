//! `call_soon` and its family, time.

use std::ffi::CStr;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use super::EventLoop;
use crate::asyncio;
use crate::ffi::method::{CallArguments, FastMethod};
use crate::ffi::runnable::{runnable, send_runnable};
use crate::ffi::thread::current_thread;
use crate::handles::{Arguments, Handle, RunHandle, RunTimer, TimerHandle};
use crate::loop_ref::{LoopCore, LoopRef, nanos, seconds};

#[pymethods]
impl EventLoop {
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

/// `EventLoop.call_soon`.
pub(crate) struct CallSoon;

impl FastMethod for CallSoon {
    type Class = EventLoop;

    const NAME: &'static CStr = c"call_soon";

    const DOC: &'static CStr = c"call_soon($self, callback, *args, context=None)\n--\n\n\
        Has `callback(*args)` called in the next turn, in `context` or a copy of the current one.\n\n\
        Raises RuntimeError if the loop is closed.";

    /// Budget: a context, a handle, a tuple if there is more than one argument; no Python is called.
    #[inline]
    fn call<'py>(slf: &Bound<'py, EventLoop>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let core = slf.as_super();
        core.get().admit(py)?;
        let (callback, context) = callback_and_context(arguments)?;
        if core.get().debug.get(py) {
            check_callback(&callback, "call_soon")?;
        }
        let rest = match arguments.len() {
            0 | 1 => Arguments::None,
            2 => arguments.get(1).map_or(Arguments::None, |argument| Arguments::One(argument.to_owned().unbind())),
            _ => Arguments::Many(PyTuple::new(py, arguments.rest(1))?.unbind()),
        };
        let handle = Handle::create(core, callback.unbind(), rest, context.map(Bound::unbind))?;
        core.get().push(py, runnable::<RunHandle>(handle.clone().unbind()));
        Ok(handle.into_any())
    }
}

type CallbackAndContext<'py> = (Bound<'py, PyAny>, Option<Bound<'py, PyAny>>);

#[inline]
fn callback_and_context<'py>(arguments: &CallArguments<'_, 'py>) -> PyResult<CallbackAndContext<'py>> {
    let mut callback = arguments.get(0).map(|callback| callback.to_owned());
    let mut context = None;
    if arguments.has_named() {
        for (name, value) in arguments.named() {
            match name.cast::<PyString>()?.to_str()? {
                "context" => context = Some(value.to_owned()).filter(|context| !context.is_none()),
                "callback" if callback.is_none() => callback = Some(value.to_owned()),
                other => {
                    let text = format!("call_soon() got an unexpected keyword argument '{other}'");
                    return Err(PyTypeError::new_err(text));
                }
            }
        }
    }
    match callback {
        Some(callback) => Ok((callback, context)),
        None => Err(PyTypeError::new_err("call_soon() missing 1 required positional argument: 'callback'")),
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
