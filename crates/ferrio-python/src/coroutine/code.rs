//! A code object and a frame for coroutines whose body is Rust.
//!
//! What looks at a coroutine takes one without a frame for finished: `inspect.getcoroutinestate`, debuggers, whoever
//! closes what was not begun. And it goes from there to the code without a question. So there are both, with the name
//! of the function and nothing in them. They are made when somebody asks.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

/// What stands for the file.
const FILE: &str = "<ferrio>";

/// The code object of the function `name`: the same one each time.
pub(super) fn code_of<'py>(py: Python<'py>, name: &'static str) -> PyResult<Bound<'py, PyAny>> {
    function_of(py, name)?.getattr("__code__")
}

/// A frame of the function, at its first line.
pub(super) fn frame_of<'py>(py: Python<'py>, name: &'static str) -> PyResult<Bound<'py, PyAny>> {
    let coroutine = function_of(py, name)?.call0()?;
    let frame = coroutine.getattr("cr_frame")?;
    // Nobody is going to await it.
    coroutine.call_method0("close")?;
    Ok(frame)
}

/// The function, which is one of the interpreter's, and empty.
fn function_of<'py>(py: Python<'py>, name: &'static str) -> PyResult<Bound<'py, PyAny>> {
    static MADE: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    let made = MADE.get_or_init(py, || PyDict::new(py).unbind()).bind(py);
    if let Some(function) = made.get_item(name)? {
        return Ok(function);
    }
    let globals = PyDict::new(py);
    globals.set_item("__name__", "ferrio")?;
    // Without an import: coroutines are also shown while the interpreter goes.
    py.run(c"async def function(): pass", Some(&globals), None)?;
    let function = globals.as_any().get_item("function")?;
    globals.del_item("function")?;
    let changed = PyDict::new(py);
    changed.set_item("co_filename", FILE)?;
    changed.set_item("co_name", name.rsplit('.').next().unwrap_or(name))?;
    changed.set_item("co_qualname", name)?;
    let code = function.getattr("__code__")?.call_method("replace", (), Some(&changed))?;
    function.setattr("__code__", code)?;
    made.set_item(name, &function)?;
    Ok(function)
}
