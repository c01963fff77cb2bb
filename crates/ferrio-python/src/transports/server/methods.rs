//! What Python sees of a server.

use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple, PyWeakrefMethods, PyWeakrefReference};

use super::Server;
use crate::asyncio;
use crate::coroutine::{Coroutine, await_};
use crate::loop_ref::LoopCore;
use crate::tasks;

#[pymethods]
impl Server {
    /// The loop that the server is part of.
    fn get_loop<'py>(&self, py: Python<'py>) -> Bound<'py, LoopCore> {
        self.core.bind(py).clone()
    }

    /// Whether the server accepts connections.
    fn is_serving(&self, py: Python<'_>) -> bool {
        self.serving.get(py)
    }

    /// The listening sockets, as asyncio.TransportSocket; none once the server is closed.
    #[getter]
    fn sockets<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let class = asyncio::transport_socket_class(py)?;
        let sockets = self.listeners(py).into_iter().map(|listener| class.call1((listener.get().socket(py),)));
        PyTuple::new(py, sockets.collect::<PyResult<Vec<_>>>()?)
    }

    /// The sockets themselves, which programs take over from a server; None once it is closed.
    #[getter]
    fn _sockets<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyList>>> {
        if self.is_closed(py) {
            return Ok(None);
        }
        let listeners = self.listeners(py);
        PyList::new(py, listeners.iter().map(|listener| listener.get().socket(py))).map(Some)
    }

    /// Begins to accept connections, by asyncio's name for it, which programs call where they cannot await.
    fn _start_serving(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::start(slf)
    }

    #[getter]
    fn _loop<'py>(&self, py: Python<'py>) -> Bound<'py, LoopCore> {
        self.get_loop(py)
    }

    /// The futures of those who wait for its end; None once it has come. asyncio's tests look.
    #[getter]
    fn _waiters<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyList>>> {
        let waiters = self.state.with(py, |state| {
            let waiters = state.waiters.as_ref()?;
            Some(waiters.iter().map(|waiter| waiter.clone_ref(py)).collect::<Vec<_>>())
        });
        waiters.map(|waiters| PyList::new(py, waiters)).transpose()
    }

    /// Stops listening. Connections that were accepted go on. Closing it again does nothing.
    #[pyo3(name = "close")]
    fn close_method(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::close(slf)
    }

    /// Calls `close()` of the transports of all connections (asyncio has it since 3.13).
    fn close_clients(&self, py: Python<'_>) -> PyResult<()> {
        self.for_each_client(py, "close")
    }

    /// Calls `abort()` of the transports of all connections (asyncio has it since 3.13).
    fn abort_clients(&self, py: Python<'_>) -> PyResult<()> {
        self.for_each_client(py, "abort")
    }

    /// Begins to accept connections. Does nothing if it does so already.
    fn start_serving<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Coroutine>> {
        let server = WeakServer::new(slf)?;
        Coroutine::new(slf.py(), "Server.start_serving", async move {
            let turn = Python::attach(|py| {
                server.get(py).map_or(Ok(()), |server| Self::start(&server))?;
                tasks::function(py, "sleep")?.call1((0,)).map(Bound::unbind)
            })?;
            await_(turn).await
        })
    }

    /// Accepts connections until it is cancelled; closes the server and its connections then, and waits for their end.
    ///
    /// Raises RuntimeError if the server is closed, or if somebody else waits here.
    fn serve_forever<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Coroutine>> {
        // Until it begins, which is when the reactor keeps the server, the coroutine does.
        let unbegun = slf.clone().unbind();
        let server = WeakServer::new(slf)?;
        Coroutine::new(slf.py(), "Server.serve_forever", async move {
            let forever = Python::attach(move |py| Self::begin_forever(unbegun.bind(py)))?;
            let ended = await_(forever.into_any()).await;
            let cancelled = match &ended {
                Err(error) => Python::attach(|py| asyncio::cancelled_error::is(error.value(py))),
                Ok(_) => false,
            };
            if cancelled {
                let waiter = Python::attach(|py| {
                    let Some(server) = server.get(py) else { return Ok(None) };
                    Self::close(&server)?;
                    server.get().close_clients(py)?;
                    server.get().waiter(py)
                });
                // As in asyncio, the cancellation is what is raised, whatever comes of the closing.
                if let Ok(Some(waiter)) = waiter {
                    _ = await_(waiter.into_any()).await;
                }
            }
            Python::attach(|py| {
                if let Some(server) = server.get(py) {
                    drop(server.get().state.with(py, |state| state.forever.take()));
                }
            });
            ended
        })
    }

    /// Waits until the server is closed and its connections are gone, in whichever order (asyncio since 3.12.1).
    fn wait_closed<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Coroutine>> {
        let server = WeakServer::new(slf)?;
        Coroutine::new(slf.py(), "Server.wait_closed", async move {
            let waiter = Python::attach(|py| match server.get(py) {
                Some(server) => server.get().waiter(py),
                None => Ok(None),
            })?;
            match waiter {
                Some(waiter) => await_(waiter.into_any()).await,
                None => Python::attach(|py| Ok(py.None())),
            }
        })
    }

    fn __aenter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Coroutine>> {
        let this = slf.clone().unbind();
        Coroutine::new(slf.py(), "AbstractServer.__aenter__", async move { Ok(this.into_any()) })
    }

    #[pyo3(signature = (*_exc))]
    fn __aexit__<'py>(slf: &Bound<'py, Self>, _exc: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, Coroutine>> {
        let server = WeakServer::new(slf)?;
        Coroutine::new(slf.py(), "AbstractServer.__aexit__", async move {
            let waiter = Python::attach(|py| {
                let Some(server) = server.get(py) else { return Ok(None) };
                Self::close(&server)?;
                server.get().waiter(py)
            })?;
            match waiter {
                Some(waiter) => await_(waiter.into_any()).await,
                None => Python::attach(|py| Ok(py.None())),
            }
        })
    }

    #[getter]
    fn __class__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        asyncio::server_class(slf.py()).cloned()
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let py = slf.py();
        Ok(format!("<{} sockets={}>", slf.get_type().name()?, slf.get().sockets(py)?.repr()?))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.traverse(visit)
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        let py = slf.py();
        drop((slf.get().factory.take(py), slf.get().state.take(py)));
    }
}

/// A server as the body of one of its coroutines knows it: the collector does not see what a body holds.
struct WeakServer(Py<PyWeakrefReference>);

impl WeakServer {
    fn new(server: &Bound<'_, Server>) -> PyResult<Self> {
        Ok(Self(PyWeakrefReference::new(server)?.unbind()))
    }

    fn get<'py>(&self, py: Python<'py>) -> Option<Bound<'py, Server>> {
        self.0.bind(py).upgrade()?.cast_into().ok()
    }
}
