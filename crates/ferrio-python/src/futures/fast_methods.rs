//! The short methods that programs call most: without PyO3's parser and trampoline, which take longer than they do.

use std::ffi::CStr;

use pyo3::prelude::*;
use pyo3::types::PyBool;

use super::Future;
use crate::ffi::method::{CallArguments, FastMethod};

/// `Future.set_result`.
pub(crate) struct SetResult;

impl FastMethod for SetResult {
    type Class = Future;

    const NAME: &'static CStr = c"set_result";

    const DOC: &'static CStr = c"set_result($self, result, /)\n--\n\n\
        Marks the future done with a result, and schedules its callbacks.\n\n\
        Raises InvalidStateError if it is done.";

    #[inline]
    fn call<'py>(this: &Bound<'py, Future>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let result = arguments.only("set_result", "result")?;
        Future::check_initialized(this)?;
        Future::resolve(this, result)?;
        Ok(this.py().None().into_bound(this.py()))
    }
}

/// `Future.done`.
pub(crate) struct Done;

impl FastMethod for Done {
    type Class = Future;

    const NAME: &'static CStr = c"done";

    const DOC: &'static CStr = c"done($self, /)\n--\n\n\
        Whether there is a result, an exception or a cancellation.";

    #[inline]
    fn call<'py>(this: &Bound<'py, Future>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        arguments.none("done")?;
        let future = this.get();
        let is_done = future.loop_ref(py).is_some() && !future.is_pending(py);
        Ok(PyBool::new(py, is_done).to_owned().into_any())
    }
}

/// `Future.cancel`.
pub(crate) struct Cancel;

impl FastMethod for Cancel {
    type Class = Future;

    const NAME: &'static CStr = c"cancel";

    const DOC: &'static CStr = c"cancel($self, msg=None)\n--\n\n\
        Marks the future cancelled, and schedules its callbacks. False if it was done.";

    fn call<'py>(this: &Bound<'py, Future>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        let [message] = arguments.bind("cancel", ["msg"], 0, 1)?;
        Future::check_initialized(this)?;
        let is_cancelled = Future::cancel(this, message.map(|message| message.to_owned()))?;
        Ok(PyBool::new(py, is_cancelled).to_owned().into_any())
    }
}
