//! What Python sees of a process.

use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;

use super::SubprocessTransport;
use crate::asyncio;
use crate::coroutine::Coroutine;
use crate::loop_ref::LoopCore;

#[pymethods]
impl SubprocessTransport {
    /// The process's number.
    fn get_pid(&self) -> i32 {
        self.pid
    }

    /// The process's return code, -N if the signal N ended it; None while it runs. 255 if somebody else has waited for
    /// it.
    fn get_returncode(&self, py: Python<'_>) -> Option<i32> {
        self.state.with(py, |state| state.returncode)
    }

    /// The transport of the process's stdin (0), stdout (1) or stderr (2); None if that is no pipe.
    fn get_pipe_transport(&self, fd: &Bound<'_, PyAny>) -> Option<Py<PyAny>> {
        let (py, fd) = (fd.py(), fd.extract::<usize>().ok()?);
        self.state.with(py, |state| Some(state.pipes.get(fd)?.as_ref()?.transport.clone_ref(py)))
    }

    /// Sends the signal with the number `signal`. Does nothing if the process has ended.
    ///
    /// Raises ProcessLookupError after `connection_lost`, PermissionError if the process is another user's.
    fn send_signal(slf: &Bound<'_, Self>, signal: i32) -> PyResult<()> {
        Self::send(slf, signal)
    }

    /// Sends SIGTERM, as `send_signal` does.
    fn terminate(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::send(slf, libc::SIGTERM)
    }

    /// Sends SIGKILL, as `send_signal` does.
    fn kill(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::send(slf, libc::SIGKILL)
    }

    /// Closes the pipes and kills the process if it runs. The protocol is told of both in later turns.
    #[pyo3(name = "close")]
    fn close_method(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::close(slf)
    }

    /// Whether `close()` has been called.
    fn is_closing(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.closed)
    }

    /// Has `protocol` told of everything from now on.
    fn set_protocol(&self, protocol: Bound<'_, PyAny>) {
        self.protocol.set(protocol.py(), Some(protocol.clone().unbind()));
    }

    /// The protocol; None after `connection_lost`.
    fn get_protocol<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.protocol.get(py)
    }

    /// The `subprocess`, a `subprocess.Popen`; `default` for other names.
    #[pyo3(signature = (name, default=None))]
    fn get_extra_info<'py>(
        &self,
        name: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = name.py();
        Ok(if name.eq(intern!(py, "subprocess"))? { Some(self.process.bind(py).clone()) } else { default })
    }

    /// What `asyncio.subprocess.Process.wait` awaits.
    fn _wait<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Coroutine>> {
        Self::wait(slf)
    }

    #[getter]
    fn _loop<'py>(&self, py: Python<'py>) -> Bound<'py, LoopCore> {
        self.core(py).clone()
    }

    #[getter]
    fn _proc<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.process.bind(py).clone()
    }

    #[getter]
    fn __class__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        asyncio::subprocess_transport_class(slf.py()).cloned()
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let py = slf.py();
        let transport = slf.get();
        let (closed, returncode, pipes) = transport.state.with(py, |state| {
            let pipes = state.pipes.each_ref().map(|pipe| pipe.as_ref().map(|pipe| pipe.transport.clone_ref(py)));
            (state.closed, state.returncode, pipes)
        });
        let mut words = vec![slf.get_type().name()?.to_string()];
        if closed {
            words.push("closed".to_owned());
        }
        words.push(format!("pid={}", transport.pid));
        words.push(returncode.map_or_else(|| "running".to_owned(), |returncode| format!("returncode={returncode}")));
        for (name, pipe) in ["stdin", "stdout", "stderr"].into_iter().zip(pipes) {
            if let Some(pipe) = pipe {
                words.push(format!("{name}={}", pipe.bind(py).repr()?));
            }
        }
        Ok(format!("<{}>", words.join(" ")))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.traverse(visit)
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        slf.get().clear(slf.py());
    }
}
