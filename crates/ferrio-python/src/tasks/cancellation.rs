//! What a scope (a timeout, a group) asks of the task it is entered by, of whatever make.
//!
//! A task of our very class is asked in Rust; a subclass, whose methods may be its own, and a foreign one by name.

use pyo3::intern;
use pyo3::prelude::*;

use super::task::Task;
use crate::ffi::call::method0;
use crate::ffi::own_attributes;

/// `task.cancel()`. Runs Python code.
#[inline]
pub(crate) fn cancel(task: &Bound<'_, PyAny>) -> PyResult<()> {
    let name = intern!(task.py(), "cancel");
    match task.cast_exact::<Task>() {
        Ok(task) if !own_attributes::has(task, name)? => {
            task.as_super().get().log_traceback_off(task.py());
            Task::request_cancel(task, None).map(drop)
        }
        _ => method0(task, name).map(drop),
    }
}

/// `task.cancelling()`: how many requests to cancel there are.
#[inline]
pub(crate) fn cancelling(task: &Bound<'_, PyAny>) -> PyResult<i64> {
    match task.cast_exact::<Task>() {
        Ok(task) => Ok(task.get().cancelling(task.py()).into()),
        Err(_) => method0(task, intern!(task.py(), "cancelling"))?.extract(),
    }
}

/// `task.uncancel()`: takes a request back, and returns how many are left.
#[inline]
pub(crate) fn uncancel(task: &Bound<'_, PyAny>) -> PyResult<i64> {
    match task.cast_exact::<Task>() {
        Ok(task) => Ok(task.get().uncancel(task.py()).into()),
        Err(_) => method0(task, intern!(task.py(), "uncancel"))?.extract(),
    }
}
