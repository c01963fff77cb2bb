//! `subprocess.Popen`, called from where asyncio calls it.
//!
//! `Popen` reads from a pipe until the program has begun, which blocks for that moment. Tools that refuse to have a
//! loop block know that of asyncio, and look for the frame that does it: by the end of its file's name and by its own
//! name. There are no frames of ours, so there is one for this.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

use crate::asyncio;

/// Not the file of that name, which is not there: a traceback shows no line of it.
const FILE: &str = "<ferrio>/asyncio/base_events.py";

const SOURCE: &str =
    "def subprocess_exec(arguments, keywords):\n    return unix_events.subprocess.Popen(arguments, **keywords)\n";

/// A process.
///
/// # Errors
///
/// What `Popen` raises.
pub(super) fn popen<'py>(arguments: &Bound<'py, PyAny>, keywords: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyAny>> {
    let py = arguments.py();
    static FUNCTION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let make = || {
        let globals = PyDict::new(py);
        globals.set_item(intern!(py, "unix_events"), asyncio::module(py, "asyncio.unix_events")?)?;
        let builtins = asyncio::module(py, "builtins")?;
        let code = builtins.call_method1(intern!(py, "compile"), (SOURCE, FILE, "exec"))?;
        builtins.call_method1(intern!(py, "exec"), (code, &globals))?;
        PyResult::Ok(globals.as_any().get_item(intern!(py, "subprocess_exec"))?.unbind())
    };
    FUNCTION.get_or_try_init(py, make)?.bind(py).call1((arguments, keywords))
}
