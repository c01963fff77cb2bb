//! How a transport's work is run by the loop.

use ferrio::engine::Flow;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::asyncio;
use crate::contexts::HasContext;
use crate::ffi::context;
use crate::ffi::raise::{raised, settled};
use crate::ffi::runnable::leave;
use crate::handles::watched;
use crate::loop_ref::{LoopCore, report};

/// Runs `f` as a callback of the loop on behalf of `what`: in `context`, as no task's turn, and watched in debug mode.
///
/// `f` has reported what it knew how to report; what it returns leaves the loop, or is a failure of its own.
#[inline]
pub(crate) fn run(
    core: &Bound<'_, LoopCore>,
    context: &Bound<'_, PyAny>,
    what: &Bound<'_, PyAny>,
    f: impl FnOnce() -> PyResult<()>,
) -> Flow {
    core.get().current().clear(core.as_any());
    let f = || match context::run_in(context.as_borrowed(), f).flatten() {
        Ok(()) => Flow::Continue,
        Err(error) => failed(core, what, error),
    };
    if core.get().debug.get(core.py()) { watched(core.get(), what, f) } else { f() }
}

/// As [`run`], in the context that `owner` has.
#[inline]
pub(crate) fn run_of(
    core: &Bound<'_, LoopCore>,
    owner: &impl HasContext,
    what: &Bound<'_, PyAny>,
    f: impl FnOnce() -> PyResult<()>,
) -> Flow {
    match owner.context_of_step(core.py()) {
        Ok((Some(context), lent)) => {
            let flow = run(core, &context, what, f);
            if let Some(lent) = lent {
                owner.give_back(context, lent);
            }
            flow
        }
        Ok((None, _)) => Flow::Continue,
        Err(error) => failed(core, what, error),
    }
}

#[cold]
pub(crate) fn failed(core: &Bound<'_, LoopCore>, what: &Bound<'_, PyAny>, error: PyErr) -> Flow {
    let py = core.py();
    let error = settled(py, error);
    if asyncio::leaves_the_loop(py, &error) {
        return leave(error);
    }
    let exception = raised(py, error).into_any();
    let text = match what.repr() {
        Ok(repr) => format!("Exception in callback of {repr}"),
        Err(_) => "Exception in callback of a transport".to_owned(),
    };
    report(core.as_any(), &[("message", PyString::new(py, &text).into_any()), ("exception", exception)])
}
