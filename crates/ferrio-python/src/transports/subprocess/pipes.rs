//! The protocol of one of a process's pipes.

use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, intern};

use super::SubprocessTransport;
use super::life::Event;
use crate::ffi::cell::GilCell;

/// Tells the process's transport what its pipe transport tells.
#[pyclass(frozen, module = "ferrio._ferrio")]
pub(crate) struct SubprocessPipeProtocol {
    /// None once the pipe is closed.
    process: GilCell<Option<Py<SubprocessTransport>>>,
    /// The descriptor's number in the process: 0, 1 or 2.
    fd: usize,
}

impl SubprocessPipeProtocol {
    pub(super) fn new(process: Py<SubprocessTransport>, fd: usize) -> Self {
        Self { process: GilCell::new(Some(process)), fd }
    }

    fn process<'py>(&self, py: Python<'py>) -> Option<Bound<'py, SubprocessTransport>> {
        self.process.clone_ref(py).map(|process| process.into_bound(py))
    }
}

#[pymethods]
impl SubprocessPipeProtocol {
    fn connection_made(&self, _transport: &Bound<'_, PyAny>) {}

    fn data_received(&self, data: Bound<'_, PyAny>) {
        if let Some(process) = self.process(data.py()) {
            SubprocessTransport::tell(&process, Event::Data(self.fd, data.unbind()));
        }
    }

    fn eof_received(&self) {}

    fn connection_lost(&self, exc: Bound<'_, PyAny>) {
        let py = exc.py();
        if let Some(process) = self.process.take(py) {
            SubprocessTransport::pipe_lost(process.bind(py), self.fd, exc.unbind());
        }
    }

    // Flow control is about the moment: it does not wait for what the protocol is still to be told.

    fn pause_writing(&self, py: Python<'_>) -> PyResult<()> {
        match self.process(py) {
            Some(process) => process.get().protocol.call0(intern!(py, "pause_writing")).map(drop),
            None => Ok(()),
        }
    }

    fn resume_writing(&self, py: Python<'_>) -> PyResult<()> {
        match self.process(py) {
            Some(process) => process.get().protocol.call0(intern!(py, "resume_writing")).map(drop),
            None => Ok(()),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.process.traverse(visit, |process, visit| visit.call(process))
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        drop(slf.get().process.take(slf.py()));
    }
}
