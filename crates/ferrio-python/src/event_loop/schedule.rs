//! `call_soon` and its family, time.

use std::ffi::CStr;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use super::EventLoop;
use crate::asyncio;
use crate::ffi::method::{CallArguments, FastMethod};
use crate::ffi::number::to_f64;
use crate::ffi::runnable::{self, runnable, send_runnable};
use crate::ffi::thread::current_thread;
use crate::handles::{Arguments, Handle, RunHandle, RunTimer, TimerHandle, unless_float};
use crate::loop_ref::{nanos, seconds};

#[pymethods]
impl EventLoop {
    /// What a timer's handle of another make calls when it is cancelled. Ours have been taken out by then.
    fn _timer_handle_cancelled(&self, _handle: &Bound<'_, PyAny>) {}

    /// The handles of the timers that are pending, soonest first, for tests that let time pass.
    ///
    /// It is a list of its own: what is done to it sets no timer and cancels none.
    #[getter]
    fn _scheduled<'py>(slf: &Bound<'py, Self>) -> Vec<Bound<'py, TimerHandle>> {
        let py = slf.py();
        let mut pending = Vec::new();
        slf.as_super().get().engine(py).for_each_timer(|queued| pending.extend(runnable::object(py, queued)));
        // What sleeps without a handle is no part of it.
        let handles = pending.into_iter().filter_map(|object| object.into_bound(py).cast_into::<TimerHandle>().ok());
        let mut handles: Vec<_> = handles.collect();
        handles.sort_by(TimerHandle::order);
        handles
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

    /// Budget: a handle, a tuple if there is more than one argument; no Python is called.
    #[inline]
    fn call<'py>(slf: &Bound<'py, EventLoop>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let core = slf.as_super();
        let call = Call::parse(slf.py(), arguments, "call_soon", None)?;
        admit(slf, &call.callback, "call_soon")?;
        let handle = Handle::create(core, call.callback.unbind(), call.rest, call.context.map(Bound::unbind))?;
        core.get().push(slf.py(), runnable::<RunHandle>(handle.clone().unbind()));
        Ok(handle.into_any())
    }
}

/// `EventLoop.call_soon_threadsafe`.
pub(crate) struct CallSoonThreadsafe;

impl FastMethod for CallSoonThreadsafe {
    type Class = EventLoop;

    const NAME: &'static CStr = c"call_soon_threadsafe";

    const DOC: &'static CStr = c"call_soon_threadsafe($self, callback, *args, context=None)\n--\n\n\
        `call_soon` for other threads, and for signal handlers. Wakes the loop if it sleeps.\n\n\
        Raises RuntimeError if the loop is closed.";

    /// Budget: as `call_soon`, and a lock that the loop holds for a moment.
    #[inline]
    fn call<'py>(slf: &Bound<'py, EventLoop>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let call = Call::parse(py, arguments, "call_soon_threadsafe", None)?;
        let core = slf.as_super().get();
        core.check_open(py)?;
        if core.debug.get(py) {
            check_callback(&call.callback, "call_soon_threadsafe")?;
        }
        let context = call.context.map(Bound::unbind);
        let handle = Handle::create(slf.as_super(), call.callback.unbind(), call.rest, context)?;
        handle.get().share(py);
        let thread = core.thread.get(py);
        if thread == 0 || thread == current_thread() {
            // Straight into the queue, so that the order of calls is kept. A signal handler that runs inside the loop's
            // wait comes here too: the wait ends with it, and the turn goes on.
            core.push(py, runnable::<RunHandle>(handle.clone().unbind()));
        } else if core.engine(py).handle().inject(send_runnable::<RunHandle>(handle.clone().unbind())).is_err() {
            core.check_open(py)?;
        }
        Ok(handle.into_any())
    }
}

/// `EventLoop.call_later`.
pub(crate) struct CallLater;

impl FastMethod for CallLater {
    type Class = EventLoop;

    const NAME: &'static CStr = c"call_later";

    const DOC: &'static CStr = c"call_later($self, delay, callback, *args, context=None)\n--\n\n\
        Has `callback(*args)` called `delay` seconds from now. A negative delay is due at once, before a later one.\n\n\
        Raises RuntimeError if the loop is closed, TypeError if there is no delay.";

    /// Budget: as `call_soon`, and a place in the heap.
    #[inline]
    fn call<'py>(slf: &Bound<'py, EventLoop>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let call = Call::parse(slf.py(), arguments, "call_later", Some("delay"))?;
        let Some(delay) = &call.time else { return Err(PyTypeError::new_err("delay must not be None")) };
        let when = seconds(slf.as_super().get().engine(slf.py()).clock().now()) + to_f64(delay)?;
        set_timer(slf, when, None, call)
    }
}

/// `EventLoop.call_at`.
pub(crate) struct CallAt;

impl FastMethod for CallAt {
    type Class = EventLoop;

    const NAME: &'static CStr = c"call_at";

    const DOC: &'static CStr = c"call_at($self, when, callback, *args, context=None)\n--\n\n\
        Has `callback(*args)` called at `when`, in seconds on the loop's clock; equal times are served in order.\n\n\
        Raises RuntimeError if the loop is closed, TypeError if there is no time.";

    /// Budget: as `call_later`.
    #[inline]
    fn call<'py>(slf: &Bound<'py, EventLoop>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let call = Call::parse(slf.py(), arguments, "call_at", Some("when"))?;
        let Some(when) = &call.time else { return Err(PyTypeError::new_err("when cannot be None")) };
        let (when, given) = (to_f64(when)?, unless_float(when));
        set_timer(slf, when, given, call)
    }
}

/// Has `call` made at `when`, which was given as `given` if that is no float.
fn set_timer<'py>(
    slf: &Bound<'py, EventLoop>,
    when: f64,
    given: Option<Py<PyAny>>,
    call: Call<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = slf.py();
    let core = slf.as_super();
    // The name that asyncio's `call_later` has for it as well.
    admit(slf, &call.callback, "call_at")?;
    let context = call.context.map(Bound::unbind);
    let timer = TimerHandle::create(core, call.callback.unbind(), call.rest, context, when, given)?;
    let key = core.get().engine(py).push_at(nanos(when), runnable::<RunTimer>(timer.clone().unbind()));
    timer.get().set_key(py, key);
    Ok(timer.into_any())
}

/// Whether the loop takes `callback` now: it is open and, in debug mode, this is its thread, and the callback can be
/// called.
#[inline]
fn admit(slf: &Bound<'_, EventLoop>, callback: &Bound<'_, PyAny>, method: &str) -> PyResult<()> {
    let core = slf.as_super().get();
    core.admit(slf.py())?;
    if core.debug.get(slf.py()) { check_callback(callback, method) } else { Ok(()) }
}

/// The arguments of `call_soon` and its family.
struct Call<'py> {
    /// What was given, unless it is None.
    time: Option<Bound<'py, PyAny>>,
    callback: Bound<'py, PyAny>,
    rest: Arguments,
    context: Option<Bound<'py, PyAny>>,
}

impl<'py> Call<'py> {
    /// Takes the arguments of `method`, the first of which is a time if it has a name for one.
    #[inline]
    fn parse(
        py: Python<'py>,
        arguments: &CallArguments<'_, 'py>,
        method: &'static str,
        time_name: Option<&'static str>,
    ) -> PyResult<Self> {
        let first = usize::from(time_name.is_some());
        let (mut time, mut callback, mut context) =
            (None, arguments.get(first).map(|callback| callback.to_owned()), None);
        if time_name.is_some() {
            time = arguments.get(0).map(|time| time.to_owned());
        }
        if arguments.has_named() {
            for (name, value) in arguments.named() {
                match name.cast::<PyString>()?.to_str()? {
                    "context" => context = Some(value.to_owned()).filter(|context| !context.is_none()),
                    "callback" if callback.is_none() => callback = Some(value.to_owned()),
                    other if Some(other) == time_name && time.is_none() => time = Some(value.to_owned()),
                    other => {
                        let text = format!("{method}() got an unexpected keyword argument '{other}'");
                        return Err(PyTypeError::new_err(text));
                    }
                }
            }
        }
        let Some(callback) = callback else { return Err(missing(method, "callback")) };
        let time = match (time_name, time) {
            (None, _) => None,
            (Some(name), None) => return Err(missing(method, name)),
            (Some(_), Some(time)) => Some(time).filter(|time| !time.is_none()),
        };
        let rest = match arguments.len() - first.min(arguments.len()) {
            0 | 1 => Arguments::None,
            2 => arguments.get(first + 1).map_or(Arguments::None, |only| Arguments::One(only.to_owned().unbind())),
            _ => Arguments::Many(PyTuple::new(py, arguments.rest(first + 1))?.unbind()),
        };
        Ok(Self { time, callback, rest, context })
    }
}

#[cold]
fn missing(method: &str, name: &str) -> PyErr {
    PyTypeError::new_err(format!("{method}() missing 1 required positional argument: '{name}'"))
}

/// # Errors
///
/// `TypeError` if `callback` is a coroutine or a coroutine function.
pub(super) fn refuse_coroutine(callback: &Bound<'_, PyAny>, method: &str) -> PyResult<()> {
    let py = callback.py();
    let is_function = asyncio::module(py, "inspect")?.call_method1("iscoroutinefunction", (callback,))?.is_truthy()?;
    if is_function || asyncio::iscoroutine(py)?.call1((callback,))?.is_truthy()? {
        return Err(PyTypeError::new_err(format!("coroutines cannot be used with {method}()")));
    }
    Ok(())
}

/// # Errors
///
/// As [`refuse_coroutine`], and if it is nothing that can be called.
pub(super) fn check_callback(callback: &Bound<'_, PyAny>, method: &str) -> PyResult<()> {
    refuse_coroutine(callback, method)?;
    if !callback.is_callable() {
        let text = format!("a callable object was expected by {method}(), got {}", callback.repr()?);
        return Err(PyTypeError::new_err(text));
    }
    Ok(())
}
