//! `sleep`.

use ferrio::engine::Flow;
use pyo3::exceptions::PyValueError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, intern};

use crate::asyncio;
use crate::coroutine::{Coroutine, Frame, Next, Outcome};
use crate::ffi::async_function::AsyncFunction;
use crate::ffi::method::CallArguments;
use crate::ffi::number::plain_f64;
use crate::ffi::pool;
use crate::ffi::raise::settled;
use crate::ffi::runnable::{Job, leave};
use crate::futures::Future;
use crate::loop_ref::{Due, LoopRef, Timer};

/// `ferrio.sleep`.
pub(crate) struct SleepFunction;

impl AsyncFunction for SleepFunction {
    const NAME: &'static str = "sleep";

    const PARAMETERS: &'static str = "(delay, result=None)";

    const DOC: &'static str = "Returns `result` after `delay` seconds.\n\n\
        A delay of zero, or less, gives every other task and callback that is ready one turn.\n\n\
        Raises ValueError if the delay is not a number.";

    #[inline]
    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let [delay, result] = arguments.bind("sleep", ["delay", "result"], 1, 2)?;
        let delay = delay.map_or_else(|| py.None(), |delay| delay.to_owned().unbind());
        let result = result.map_or_else(|| py.None(), |result| result.to_owned().unbind());
        Coroutine::of(py, Self::NAME, Sleep { result, stage: Stage::Begins { delay } })
    }
}

struct Sleep {
    result: Py<PyAny>,
    stage: Stage,
}

enum Stage {
    Begins {
        delay: Py<PyAny>,
    },
    /// It gives the others their turn.
    Yields,
    Sleeps(Timer),
}

impl Frame for Sleep {
    #[inline]
    fn step<'py>(&mut self, py: Python<'py>, outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        match std::mem::replace(&mut self.stage, Stage::Yields) {
            Stage::Begins { delay } => match positive(delay.bind(py))? {
                Some(seconds) => self.fall_asleep(py, seconds),
                None => Ok(Next::Pause),
            },
            Stage::Yields => outcome.map(|_| Next::Return(self.result.clone_ref(py).into_bound(py))),
            Stage::Sleeps(timer) => {
                if let Err(error) = outcome {
                    timer.cancel(py)?;
                    return Err(error);
                }
                Ok(Next::Return(self.result.clone_ref(py).into_bound(py)))
            }
        }
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.result)?;
        match &self.stage {
            Stage::Begins { delay } => visit.call(delay),
            Stage::Yields => Ok(()),
            Stage::Sleeps(timer) => timer.traverse(visit),
        }
    }
}

impl Sleep {
    fn fall_asleep<'py>(&mut self, py: Python<'py>, seconds: f64) -> PyResult<Next<'py>> {
        let loop_ref = LoopRef::running(py)?;
        let future = pool::make(py, Future::new(py, loop_ref.clone_ref(py))?)?;
        let timer = loop_ref.set_timer::<Resolve>(&future, Due::After(seconds), |py| {
            asyncio::module(py, "asyncio.futures")?
                .getattr(intern!(py, "_set_result_unless_cancelled"))
                .map(|resolve| (resolve, vec![future.clone().into_any(), py.None().into_bound(py)]))
        })?;
        self.stage = Stage::Sleeps(timer);
        Ok(Next::Await(future.into_any()))
    }
}

/// A delay that is worth a timer.
///
/// # Errors
///
/// `ValueError` for NaN, and what comparing the delay with zero raises.
fn positive(delay: &Bound<'_, PyAny>) -> PyResult<Option<f64>> {
    let seconds = match plain_f64(delay) {
        Some(seconds) => seconds,
        None if delay.le(0)? => return Ok(None),
        None => delay.extract()?,
    };
    if seconds.is_nan() {
        return Err(PyValueError::new_err("Invalid delay: NaN (not a number)"));
    }
    Ok((seconds > 0.0).then_some(seconds))
}

/// A future whose time has come.
pub(crate) struct Resolve;

impl Job for Resolve {
    type Class = Future;

    fn run(future: &Bound<'_, Future>) -> Flow {
        let py = future.py();
        if !future.get().is_pending(py) {
            return Flow::Continue;
        }
        match Future::resolve(future, py.None().into_bound(py)).map_err(|error| settled(py, error)) {
            Ok(()) => Flow::Continue,
            Err(error) if asyncio::leaves_the_loop(py, &error) => leave(error),
            Err(error) => {
                error.write_unraisable(py, Some(future));
                Flow::Continue
            }
        }
    }
}
