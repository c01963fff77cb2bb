//! Exception handlers, debug mode.

use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyList, PyString, PyTuple};

use super::EventLoop;
use crate::asyncio;
use crate::ffi::handled::handling;
use crate::ffi::raise::{raised, settled};

#[pymethods]
impl EventLoop {
    /// The exception handler, or None for the default one.
    fn get_exception_handler(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.exception_handler.clone_ref(py)
    }

    /// Has errors that nobody handles given to `handler(loop, context)`; None brings the default handler back.
    fn set_exception_handler(&self, py: Python<'_>, handler: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        if let Some(handler) = handler.as_ref().filter(|handler| !handler.is_callable()) {
            let text = format!("A callable object or None is expected, got {}", handler.repr()?);
            return Err(PyTypeError::new_err(text));
        }
        drop(self.exception_handler.replace(py, handler.map(Bound::unbind)));
        Ok(())
    }

    /// Logs the error that `context` describes.
    ///
    /// In debug mode it adds where the callback was scheduled that runs now, as `handle_traceback`.
    fn default_exception_handler(slf: &Bound<'_, Self>, context: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = context.py();
        let get = |key: &str| context.call_method1(intern!(py, "get"), (key,));
        let message = get("message")?;
        let message = if message.is_truthy()? {
            message.str()?.to_string()
        } else {
            "Unhandled exception in event loop".to_owned()
        };
        let exception = get("exception")?;
        let exc_info = if exception.is_none() {
            false.into_pyobject(py)?.to_owned().into_any()
        } else {
            let traceback = exception.getattr(intern!(py, "__traceback__"))?;
            PyTuple::new(py, [exception.get_type().into_any(), exception, traceback])?.into_any()
        };
        add_handle_traceback(slf, context)?;
        let mut lines = vec![message];
        let keys = PyList::new(py, context.try_iter()?.collect::<PyResult<Vec<_>>>()?)?;
        keys.sort()?;
        for key in keys {
            let name = key.str()?.to_string();
            let value = match name.as_str() {
                "message" | "exception" => continue,
                "source_traceback" => traceback_text(&context.get_item(&key)?, "Object")?,
                "handle_traceback" => traceback_text(&context.get_item(&key)?, "Handle")?,
                _ => context.get_item(&key)?.repr()?.to_string(),
            };
            lines.push(format!("{name}: {value}"));
        }
        log_error(py, &lines.join("\n"), &exc_info)
    }

    /// Hands the error that `context` describes to the exception handler, in the context of what caused it.
    ///
    /// Raises only KeyboardInterrupt and SystemExit.
    fn call_exception_handler(slf: &Bound<'_, Self>, context: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        // Finalizers report while the interpreter ends, too.
        let settled = |error| settled(py, error);
        let Some(handler) = slf.get().exception_handler.clone_ref(py) else {
            let result = slf.call_method1(intern!(py, "default_exception_handler"), (context,));
            let result = result.map(drop).map_err(settled);
            return result.or_else(|error| log_failure(py, error, "Exception in default exception handler"));
        };
        let result = call_in_its_context(handler.bind(py), slf, context);
        result.map_err(settled).or_else(|error| {
            if asyncio::leaves_the_loop(py, &error) {
                return Err(error);
            }
            let report = PyDict::new(py);
            report.set_item("message", "Unhandled error in exception handler")?;
            let exception = asyncio::exception_of(py, &error);
            report.set_item("exception", &exception)?;
            report.set_item("context", context)?;
            let default = intern!(py, "default_exception_handler");
            let result = handling(&exception, || slf.call_method1(default, (report,)));
            let text = "Exception in default exception handler while handling an unexpected error in custom exception \
                        handler";
            result.map(drop).map_err(settled).or_else(|error| log_failure(py, error, text))
        })
    }

    /// Whether the loop is in debug mode.
    fn get_debug(slf: &Bound<'_, Self>) -> bool {
        slf.as_super().get().debug.get(slf.py())
    }

    /// Switches debug mode: slow callbacks are logged, calls from wrong threads refused, origins of handles, futures
    /// and coroutines remembered.
    fn set_debug(slf: &Bound<'_, Self>, enabled: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let enabled = enabled.is_truthy()?;
        let core = slf.as_super().get();
        core.debug.set(py, enabled);
        if core.is_running(py) {
            let track = slf.getattr(intern!(py, "_set_coroutine_origin_tracking"))?;
            slf.call_method1(intern!(py, "call_soon_threadsafe"), (track, enabled))?;
        }
        Ok(())
    }

    /// Seconds that a callback may take before debug mode logs it as slow; 0.1 unless it is set.
    #[getter(slow_callback_duration)]
    fn get_slow_callback_duration(slf: &Bound<'_, Self>) -> f64 {
        slf.as_super().get().slow_callback_duration.get(slf.py())
    }

    #[setter(slow_callback_duration)]
    fn set_slow_callback_duration(slf: &Bound<'_, Self>, seconds: f64) {
        slf.as_super().get().slow_callback_duration.set(slf.py(), seconds);
    }

    /// Has the interpreter remember, or no longer remember, where coroutines are made on this thread.
    #[pyo3(name = "_set_coroutine_origin_tracking")]
    pub(super) fn track_origins(slf: &Bound<'_, Self>, enabled: bool) -> PyResult<()> {
        let py = slf.py();
        let saved = &slf.get().saved_origin_depth;
        if enabled == saved.get(py).is_some() {
            return Ok(());
        }
        let sys = asyncio::module(py, "sys")?;
        let depth = if enabled {
            let depth = sys.call_method0("get_coroutine_origin_tracking_depth")?.extract()?;
            saved.set(py, Some(depth));
            ORIGIN_DEPTH
        } else {
            saved.replace(py, None).unwrap_or(0)
        };
        sys.call_method1("set_coroutine_origin_tracking_depth", (depth,)).map(drop)
    }

    #[getter]
    fn _debug(slf: &Bound<'_, Self>) -> bool {
        Self::get_debug(slf)
    }
}

fn call_in_its_context(
    handler: &Bound<'_, PyAny>,
    event_loop: &Bound<'_, EventLoop>,
    context: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let py = context.py();
    for key in ["task", "future", "handle"] {
        let thing = context.call_method1(intern!(py, "get"), (key,))?;
        if thing.is_none() {
            continue;
        }
        let its_context = thing.call_method0(intern!(py, "get_context")).ok().filter(|context| !context.is_none());
        if let Some(its_context) = its_context
            && its_context.hasattr(intern!(py, "run"))?
        {
            return its_context.call_method1(intern!(py, "run"), (handler, event_loop, context)).map(drop);
        }
        break;
    }
    handler.call1((event_loop, context)).map(drop)
}

fn add_handle_traceback(event_loop: &Bound<'_, EventLoop>, context: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = context.py();
    let Some(handle) = event_loop.as_super().get().running_handle.clone_ref(py) else { return Ok(()) };
    if context.contains("source_traceback")? {
        return Ok(());
    }
    let source_traceback = handle.bind(py).getattr(intern!(py, "_source_traceback"))?;
    if source_traceback.is_truthy()? { context.set_item("handle_traceback", source_traceback) } else { Ok(()) }
}

fn traceback_text(stack: &Bound<'_, PyAny>, what: &str) -> PyResult<String> {
    let py = stack.py();
    let lines = asyncio::format_traceback(py)?.call1((stack,))?;
    let text = PyString::new(py, "").call_method1("join", (lines,))?.str()?.to_string();
    Ok(format!("{what} created at (most recent call last):\n{}", text.trim_end()))
}

fn log_error(py: Python<'_>, message: &str, exc_info: &Bound<'_, PyAny>) -> PyResult<()> {
    let keywords = PyDict::new(py);
    keywords.set_item("exc_info", exc_info)?;
    asyncio::logger(py)?.call_method("error", (message,), Some(&keywords)).map(drop)
}

/// Logs that a handler failed; what must leave the loop is given back.
fn log_failure(py: Python<'_>, error: PyErr, message: &str) -> PyResult<()> {
    if asyncio::leaves_the_loop(py, &error) {
        return Err(error);
    }
    let exception = raised(py, error).into_any();
    handling(&exception, || log_error(py, message, &PyBool::new(py, true)))
}

/// What `-X dev` and `PYTHONASYNCIODEBUG` say.
pub(super) fn debug_by_default(py: Python<'_>) -> PyResult<bool> {
    asyncio::module(py, "asyncio.coroutines")?.call_method0("_is_debug_mode")?.is_truthy()
}

/// How many frames of a coroutine's origin debug mode keeps: as many as asyncio.
const ORIGIN_DEPTH: i32 = 10;
