//! The hooks for asynchronous generators: the loop knows those that have begun, and closes those that nobody finishes.

use pyo3::exceptions::PyException;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use pyo3::{PyTraverseError, intern};

use super::EventLoop;
use super::tasks::create_task;
use super::weak_loop::WeakLoop;
use crate::asyncio;
use crate::coroutine::{Coroutine, await_};

pub(super) struct AsyncGens {
    /// A `weakref.WeakSet`.
    alive: Py<PyAny>,
    shut_down: bool,
}

impl AsyncGens {
    pub(super) fn new(py: Python<'_>) -> PyResult<Self> {
        Ok(Self { alive: asyncio::module(py, "weakref")?.call_method0("WeakSet")?.unbind(), shut_down: false })
    }

    pub(super) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.alive)
    }
}

#[pymethods]
impl EventLoop {
    /// Closes every asynchronous generator that has begun and not ended; warns about those that begin later.
    fn shutdown_asyncgens<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Coroutine>> {
        let event_loop = WeakLoop::new(slf)?;
        Coroutine::new(slf.py(), "BaseEventLoop.shutdown_asyncgens", async move {
            let closing = Python::attach(|py| {
                let alive = event_loop.get(py)?.get().asyncgens.with(py, |asyncgens| {
                    asyncgens.shut_down = true;
                    asyncgens.alive.clone_ref(py)
                });
                let generators = alive.bind(py).try_iter()?.collect::<PyResult<Vec<_>>>()?;
                alive.bind(py).call_method0("clear")?;
                if generators.is_empty() {
                    return Ok(None);
                }
                let closes = generators.iter().map(|generator| generator.call_method0(intern!(py, "aclose")));
                let closes = PyTuple::new(py, closes.collect::<PyResult<Vec<_>>>()?)?;
                let keywords = PyDict::new(py);
                keywords.set_item("return_exceptions", true)?;
                let gather = asyncio::module(py, "asyncio.tasks")?.call_method("gather", closes, Some(&keywords))?;
                PyResult::Ok(Some((PyList::new(py, generators)?.unbind(), gather.unbind())))
            })?;
            let Some((generators, gather)) = closing else { return Python::attach(|py| Ok(py.None())) };
            let results = await_(gather).await?;
            Python::attach(|py| {
                for (result, generator) in results.bind(py).try_iter()?.zip(generators.bind(py)) {
                    let result = result?;
                    if !result.is_instance_of::<PyException>() {
                        continue;
                    }
                    let text = "an error occurred during closing of asynchronous generator";
                    let context = PyDict::new(py);
                    context.set_item("message", format!("{text} {}", generator.repr()?))?;
                    context.set_item("exception", result)?;
                    context.set_item("asyncgen", generator)?;
                    event_loop.get(py)?.call_method1(intern!(py, "call_exception_handler"), (context,))?;
                }
                Ok(py.None())
            })
        })
    }

    fn _asyncgen_firstiter_hook(slf: &Bound<'_, Self>, agen: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let (alive, shut_down) =
            slf.get().asyncgens.with(py, |asyncgens| (asyncgens.alive.clone_ref(py), asyncgens.shut_down));
        if shut_down {
            let text = "was scheduled after loop.shutdown_asyncgens() call";
            asyncio::warn_of(slf, &format!("asynchronous generator {} {text}", agen.repr()?))?;
        }
        alive.bind(py).call_method1(intern!(py, "add"), (agen,)).map(drop)
    }

    /// A generator is going away unfinished: it is closed by a task, unless the loop has gone before it.
    fn _asyncgen_finalizer_hook(slf: &Bound<'_, Self>, agen: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let alive = slf.get().asyncgens.with(py, |asyncgens| asyncgens.alive.clone_ref(py));
        alive.bind(py).call_method1(intern!(py, "discard"), (agen,))?;
        if slf.as_super().get().closed.get(py) {
            return Ok(());
        }
        // The coroutine is made by the task, not here: a loop that closes first must not leave one unawaited.
        let close = pyo3::wrap_pyfunction!(close_generator, py)?;
        slf.call_method1(intern!(py, "call_soon_threadsafe"), (close, slf, agen)).map(drop)
    }
}

#[pyfunction]
fn close_generator(event_loop: &Bound<'_, PyAny>, generator: &Bound<'_, PyAny>) -> PyResult<()> {
    let close = generator.call_method0(intern!(event_loop.py(), "aclose"))?;
    create_task(event_loop, &close).map(drop)
}

impl EventLoop {
    /// Makes the loop's hooks the thread's, and returns the ones before.
    pub(super) fn install_asyncgen_hooks<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        let py = slf.py();
        let sys = asyncio::module(py, "sys")?;
        let hooks = sys.call_method0("get_asyncgen_hooks")?.cast_into::<PyTuple>()?;
        let first = slf.getattr(intern!(py, "_asyncgen_firstiter_hook"))?;
        let last = slf.getattr(intern!(py, "_asyncgen_finalizer_hook"))?;
        sys.call_method1("set_asyncgen_hooks", (first, last))?;
        Ok(hooks)
    }

    pub(super) fn restore_asyncgen_hooks(py: Python<'_>, hooks: &Bound<'_, PyTuple>) -> PyResult<()> {
        asyncio::module(py, "sys")?.call_method1("set_asyncgen_hooks", hooks.clone()).map(drop)
    }
}
