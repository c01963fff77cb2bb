//! Who stands in the protocol's place while a file is written to its transport.

use pyo3::PyTraverseError;
use pyo3::exceptions::{PyConnectionError, PyRuntimeError};
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;

use crate::event_loop::EventLoop;
use crate::ffi::cell::GilCell;
use crate::ffi::raise::raised;
use crate::futures::Future;
use crate::loop_ref::LoopCore;

/// The protocol of a transport to which a file is written: it only keeps the writer from going too fast.
#[pyclass(frozen, module = "ferrio._ferrio")]
pub(super) struct StandIn {
    core: Py<LoopCore>,
    transport: Py<PyAny>,
    protocol: Py<PyAny>,
    was_reading: bool,
    was_paused: bool,
    /// Done when the transport wants more; none while it does.
    room: GilCell<Option<Py<Future>>>,
}

impl StandIn {
    /// Takes the place of the transport's protocol.
    pub(super) fn begin<'py>(event_loop: &Bound<'py, EventLoop>, transport: &Bound<'py, PyAny>) -> PyResult<Py<Self>> {
        let py = transport.py();
        let was_paused = transport.getattr(intern!(py, "_protocol_paused"))?.is_truthy()?;
        let stand_in = Self {
            core: event_loop.as_super().clone().unbind(),
            transport: transport.clone().unbind(),
            protocol: transport.call_method0(intern!(py, "get_protocol"))?.unbind(),
            was_reading: transport.call_method0(intern!(py, "is_reading"))?.is_truthy()?,
            was_paused,
            room: GilCell::default(),
        };
        let this = Bound::new(py, stand_in)?;
        if was_paused {
            Self::pause_writing(&this)?;
        }
        transport.call_method0(intern!(py, "pause_reading"))?;
        transport.call_method1(intern!(py, "set_protocol"), (&this,))?;
        Ok(this.unbind())
    }

    /// What to wait for before more is written; `None` if there is room.
    ///
    /// # Errors
    ///
    /// `ConnectionError` if the connection is closing.
    pub(super) fn room(&self, py: Python<'_>) -> PyResult<Option<Py<Future>>> {
        if self.transport.bind(py).call_method0(intern!(py, "is_closing"))?.is_truthy()? {
            return Err(PyConnectionError::new_err("Connection closed by peer"));
        }
        Ok(self.room.clone_ref(py))
    }

    /// Gives the place back.
    pub(super) fn end(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let stand_in = this.get();
        let transport = stand_in.transport.bind(py);
        transport.call_method1(intern!(py, "set_protocol"), (&stand_in.protocol,))?;
        if stand_in.was_reading {
            transport.call_method0(intern!(py, "resume_reading"))?;
        }
        if let Some(room) = stand_in.room.take(py) {
            // Nobody waits for it any more.
            Future::cancel(room.bind(py), None)?;
        }
        if stand_in.was_paused {
            stand_in.protocol.bind(py).call_method0(intern!(py, "resume_writing"))?;
        }
        Ok(())
    }
}

#[pymethods]
impl StandIn {
    fn connection_made(&self, _transport: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(PyRuntimeError::new_err("Invalid state: connection should have been established already."))
    }

    fn connection_lost<'py>(&self, exc: &Bound<'py, PyAny>) -> PyResult<()> {
        let py = exc.py();
        if let Some(room) = self.room.clone_ref(py)
            && room.get().is_pending(py)
        {
            let failure = if exc.is_none() {
                raised(py, PyConnectionError::new_err("Connection is closed by peer")).into_any()
            } else {
                exc.clone()
            };
            Future::reject(room.bind(py), failure)?;
        }
        self.protocol.bind(py).call_method1(intern!(py, "connection_lost"), (exc,)).map(drop)
    }

    fn pause_writing(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.room.with(py, |room| room.is_some()) {
            return Ok(());
        }
        let event_loop = this.core.bind(py).cast::<EventLoop>()?;
        let room = Py::new(py, Future::new(py, EventLoop::loop_ref(event_loop))?)?;
        drop(this.room.replace(py, Some(room)));
        Ok(())
    }

    fn resume_writing(&self, py: Python<'_>) -> PyResult<()> {
        match self.room.take(py) {
            Some(room) if room.get().is_pending(py) => Future::resolve(room.bind(py), py.None().into_bound(py)),
            _ => Ok(()),
        }
    }

    fn data_received(&self, _data: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(PyRuntimeError::new_err("Invalid state: reading should be paused"))
    }

    fn eof_received(&self) -> PyResult<()> {
        Err(PyRuntimeError::new_err("Invalid state: reading should be paused"))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.core)?;
        visit.call(&self.transport)?;
        visit.call(&self.protocol)?;
        self.room.traverse(visit, |room, visit| visit.call(room))
    }

    fn __clear__(&self, py: Python<'_>) {
        drop(self.room.take(py));
    }
}
