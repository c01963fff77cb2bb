//! `eager_task_factory` and `create_eager_task_factory`.

use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

use super::task::Task;

/// A task factory whose tasks, made by `custom_task_constructor`, begin at once (asyncio 3.12).
///
/// The constructor is called as Task is: `(coro, *, loop, eager_start, **kwargs)`.
#[pyfunction]
pub(crate) fn create_eager_task_factory(custom_task_constructor: Bound<'_, PyAny>) -> EagerTaskFactory {
    EagerTaskFactory { constructor: custom_task_constructor.unbind() }
}

/// What `create_eager_task_factory` returns.
#[pyclass(frozen, module = "ferrio._ferrio", name = "factory")]
pub(crate) struct EagerTaskFactory {
    constructor: Py<PyAny>,
}

impl EagerTaskFactory {
    /// The one that makes tasks of ours.
    pub(crate) fn of_tasks(py: Python<'_>) -> Self {
        Self { constructor: py.get_type::<Task>().into_any().unbind() }
    }
}

#[pymethods]
impl EagerTaskFactory {
    // `eager_start` is among the keywords: a None that is given is not the same as none given.
    #[pyo3(signature = (r#loop, coro, **kwargs))]
    fn __call__<'py>(
        &self,
        r#loop: &Bound<'py, PyAny>,
        coro: &Bound<'py, PyAny>,
        kwargs: Option<Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = coro.py();
        let kwargs = kwargs.unwrap_or_else(|| PyDict::new(py));
        kwargs.set_item(intern!(py, "loop"), r#loop)?;
        if !kwargs.contains(intern!(py, "eager_start"))? {
            kwargs.set_item(intern!(py, "eager_start"), true)?;
        }
        self.constructor.bind(py).call((coro,), Some(&kwargs))
    }

    /// The code that all eager factories share: by it anyio, for one, knows that tasks begin at once.
    #[getter]
    fn __code__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        static CODE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let code = CODE.get_or_try_init(py, || {
            let namespace = PyDict::new(py);
            py.run(c"def factory(loop, coro, *, eager_start=True, **kwargs): pass", Some(&namespace), None)?;
            PyResult::Ok(namespace.as_any().get_item("factory")?.getattr("__code__")?.unbind())
        });
        code.map(|code| code.clone_ref(py))
    }

    /// With the code, what makes it a function to `inspect.signature`.
    #[getter]
    fn __defaults__(&self) -> Option<bool> {
        None
    }

    #[getter]
    fn __kwdefaults__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let defaults = PyDict::new(py);
        defaults.set_item(intern!(py, "eager_start"), true)?;
        Ok(defaults)
    }

    /// Functions are copied by being the same.
    fn __copy__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __deepcopy__(slf: Py<Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        slf
    }

    #[getter]
    fn __name__(&self) -> &'static str {
        "factory"
    }

    #[getter]
    fn __qualname__(&self) -> &'static str {
        "create_eager_task_factory.<locals>.factory"
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.constructor)
    }
}
