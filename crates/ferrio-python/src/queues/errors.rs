//! What queues raise: asyncio's own exceptions.

use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use crate::asyncio;

pub(super) fn empty(py: Python<'_>) -> PyErr {
    asyncio::queue_empty::new_err(py, ())
}

pub(super) fn full(py: Python<'_>) -> PyErr {
    asyncio::queue_full::new_err(py, ())
}

pub(super) fn shut_down(py: Python<'_>) -> PyErr {
    match shut_down_class(py) {
        Ok(class) => PyErr::from_type(class.clone(), ()),
        Err(error) => error,
    }
}

/// `QueueShutDown`: asyncio's where it has one, from Python 3.13 on, or else ours.
pub(super) fn shut_down_class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let make = || match asyncio::module(py, "asyncio.queues")?.getattr("QueueShutDown") {
        Ok(class) => Ok(class.cast_into::<PyType>()?.unbind()),
        Err(error) if error.is_instance_of::<PyAttributeError>(py) => {
            let text = c"Raised by putting into, or getting from, a queue that was shut down.";
            PyErr::new_type(py, c"ferrio.QueueShutDown", Some(text), None, None)
        }
        Err(error) => Err(error),
    };
    CLASS.get_or_try_init(py, make).map(|class| class.bind(py))
}
