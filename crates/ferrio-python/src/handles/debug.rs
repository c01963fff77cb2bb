//! What handles have and do in debug mode only.

use ferrio::engine::Flow;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::handle::Handle;
use crate::asyncio;
use crate::loop_ref::LoopCore;

/// What a handle only has in debug mode.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) source_traceback: Py<PyAny>,
    /// How the handle looked when it was cancelled.
    pub(super) repr: Option<Py<PyAny>>,
}

impl Origin {
    pub(super) fn here(py: Python<'_>) -> PyResult<Self> {
        Ok(Self { source_traceback: asyncio::stack_here(py)?, repr: None })
    }
}

/// What is called and where it is defined, as asyncio words it.
pub(super) fn callback_source(
    callback: &Bound<'_, PyAny>,
    arguments: &Bound<'_, PyTuple>,
    debug: bool,
) -> PyResult<String> {
    let py = callback.py();
    let keywords = PyDict::new(py);
    // Before 3.13 the helper has no such argument, and always shows the callback's.
    if py.version_info() >= (3, 13) {
        keywords.set_item("debug", debug)?;
    }
    asyncio::format_callback_source(py)?.call((callback, arguments), Some(&keywords))?.extract()
}

#[cold]
pub(super) fn run_in_debug_mode(this: &Bound<'_, Handle>, core: &LoopCore) -> Flow {
    let py = this.py();
    if this.get().is_cancelled(py) {
        return Flow::Continue;
    }
    let previous = core.running_handle.replace(py, Some(this.clone().into_any().unbind()));
    let flow = watched(core, this.as_any(), || Handle::run(this));
    drop(core.running_handle.replace(py, previous));
    flow
}

/// Runs `f` and logs it as slow if it took longer than the loop's `slow_callback_duration`.
pub(crate) fn watched(core: &LoopCore, what: &Bound<'_, PyAny>, f: impl FnOnce() -> Flow) -> Flow {
    let py = what.py();
    let clock = core.engine(py).clock();
    let start = clock.now();
    let flow = f();
    let seconds = (clock.now() - start) as f64 / 1e9;
    if seconds >= core.slow_callback_duration.get(py) {
        // Described now: the record may be formatted when the task has gone on, or never, and must not keep it alive.
        let logged = what.repr().and_then(|what| {
            asyncio::logger(py)?.call_method1("warning", ("Executing %s took %.3f seconds", what, seconds))
        });
        if let Err(error) = logged {
            error.write_unraisable(py, Some(what));
        }
    }
    flow
}
