//! `create_task`.

use std::ffi::CStr;

use pyo3::intern;
use pyo3::prelude::*;

use crate::asyncio;
use crate::ffi::call::method1;
use crate::ffi::method::{CallArguments, FastFunction};

/// `create_task`.
pub(super) struct CreateTask;

impl FastFunction for CreateTask {
    const NAME: &'static CStr = c"create_task";

    const DOC: &'static CStr = c"create_task(coro, **kwargs)\n--\n\n\
        A task of the running loop that runs `coro`; the keyword arguments are the loop's: `name`, `context`\n\
        (asyncio 3.11), `eager_start` (3.14).\n\n\
        Raises RuntimeError if no loop runs, TypeError if `coro` is no coroutine.";

    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let (coroutine, keywords) = arguments.one_and_keywords("create_task", "coro", 0)?;
        let event_loop = asyncio::running_loop(py)?;
        let name = intern!(py, "create_task");
        match keywords {
            None => method1(&event_loop, name, &coroutine),
            Some(keywords) => event_loop.call_method(name, (coroutine,), Some(&keywords)),
        }
    }
}
