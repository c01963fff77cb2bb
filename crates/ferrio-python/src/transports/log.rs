//! What transports say to the log and to `warnings`.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::asyncio;
use crate::loop_ref::LoopCore;

/// Logs a message about the transport in debug mode, in which `%r` is the transport; `error` goes with it.
pub(crate) fn debug(
    core: &Bound<'_, LoopCore>,
    transport: &Bound<'_, PyAny>,
    level: &str,
    message: &str,
    error: Option<&PyErr>,
) {
    let py = core.py();
    if !core.get().debug.get(py) {
        return;
    }
    let logged = (|| {
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "exc_info"), error.map(|error| error.value(py)))?;
        asyncio::logger(py)?.call_method(level, (message, transport), Some(&keywords)).map(drop)
    })();
    if let Err(error) = logged {
        error.write_unraisable(py, Some(transport));
    }
}

/// Warns of a transport that goes without having been closed.
///
/// # Errors
///
/// The warning, where warnings are errors.
pub(crate) fn warn_unclosed(transport: &Bound<'_, PyAny>) -> PyResult<()> {
    asyncio::warn_of(transport, &format!("unclosed transport {}", transport.repr()?))
}
