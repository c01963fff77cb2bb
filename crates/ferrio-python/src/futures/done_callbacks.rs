//! `add_done_callback`, `remove_done_callback`, and what shows of the callbacks.

use std::ffi::CStr;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyInt;

use super::Future;
use super::callbacks::{Callback, Callbacks};
use crate::contexts::LazyContext;
use crate::ffi::method::{CallArguments, FastMethod};

/// `Future.add_done_callback`.
pub(crate) struct AddDoneCallback;

impl FastMethod for AddDoneCallback {
    type Class = Future;

    const NAME: &'static CStr = c"add_done_callback";

    const DOC: &'static CStr = c"add_done_callback($self, fn, /, *, context=None)\n--\n\n\
        Has `fn(future)` called by the loop, in `context` or a copy of the current one, when the future is done.";

    fn call<'py>(this: &Bound<'py, Future>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        let (Some(function), 1) = (arguments.get(0), arguments.len()) else {
            let given = arguments.len();
            let text = format!("add_done_callback() takes exactly 1 positional argument ({given} given)");
            return Err(PyTypeError::new_err(text));
        };
        let mut context = None;
        for (name, value) in arguments.named() {
            if !name.eq("context")? {
                let text = format!("add_done_callback() got an unexpected keyword argument '{name}'");
                return Err(PyTypeError::new_err(text));
            }
            context = Some(value.to_owned()).filter(|context| !context.is_none());
        }
        Future::check_initialized(this)?;
        let context = LazyContext::new(py, context.map(Bound::unbind))?;
        Future::add_callback(this, Callback::Call(function.to_owned().unbind(), context))?;
        Ok(py.None().into_bound(py))
    }
}

/// `Future.remove_done_callback`.
pub(crate) struct RemoveDoneCallback;

impl FastMethod for RemoveDoneCallback {
    type Class = Future;

    const NAME: &'static CStr = c"remove_done_callback";

    const DOC: &'static CStr = c"remove_done_callback($self, fn, /)\n--\n\n\
        Forgets every callback that equals `fn`, and returns how many there were.";

    fn call<'py>(this: &Bound<'py, Future>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let [function] = arguments.positional("remove_done_callback")?;
        Future::check_initialized(this)?;
        // What a future that is done has left are notifications that are due.
        let removed = if this.get().is_pending(this.py()) { remove(this, &function)? } else { 0 };
        Ok(PyInt::new(this.py(), removed).into_any())
    }
}

/// Removes the callbacks of a pending future that equal `function`.
fn remove(this: &Bound<'_, Future>, function: &Bound<'_, PyAny>) -> PyResult<usize> {
    let py = this.py();
    let inner = &this.get().inner;
    let all = inner.with(py, |inner| std::mem::take(&mut inner.callbacks));
    let mut kept = Vec::new();
    let mut removed = 0;
    // Comparing runs Python code, which may add callbacks: they come behind the ones that stay.
    let mut result = Ok(());
    for callback in all.iter() {
        let equal = match callback {
            // What is the same is equal, whatever it says of itself.
            Callback::Call(callable, _) if callable.is(function) => Ok(true),
            Callback::Call(callable, _) if result.is_ok() => callable.bind(py).eq(function),
            _ => Ok(false),
        };
        match equal {
            Ok(true) => removed += 1,
            Ok(false) => kept.push(callback.clone_ref(py)),
            Err(error) => {
                kept.push(callback.clone_ref(py));
                result = Err(error);
            }
        }
    }
    if this.get().is_pending(py) {
        inner.with(py, |inner| {
            let added = std::mem::take(&mut inner.callbacks);
            kept.extend(added.iter().map(|callback| callback.clone_ref(py)));
            inner.callbacks = Callbacks::from_iter(kept);
        });
    } else {
        for callback in kept {
            Future::add_callback(this, callback)?;
        }
    }
    all.dispose(py);
    result.map(|()| removed)
}

impl Future {
    /// Makes the contexts of the callbacks, which somebody is about to see: those who look again see the same.
    pub(super) fn show_contexts(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let inner = &this.get().inner;
        for index in 0.. {
            let hidden = inner.with(py, |inner| match inner.callbacks.iter().nth(index) {
                Some(Callback::Call(_, context @ LazyContext::Copy(..))) => Some(Some(context.clone_ref(py))),
                Some(_) => Some(None),
                None => None,
            });
            let hidden = match hidden {
                None => break,
                Some(None) => continue,
                Some(Some(hidden)) => hidden,
            };
            let made = hidden.make(py)?;
            hidden.dispose(py);
            // The collector can have run, and with it whatever code.
            let unused = inner.with(py, |inner| match inner.callbacks.iter_mut().nth(index) {
                Some(Callback::Call(_, context)) => context.know(&made).ok(),
                _ => None,
            });
            if let Some(unused) = unused {
                unused.dispose(py);
            }
        }
        Ok(())
    }
}
