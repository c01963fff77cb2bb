//! One listening socket of a server.

use std::io;
use std::os::fd::OwnedFd;

use ferrio::engine::{Direction, Flow, TimerKey};
use ferrio::net::{Address, Batch, socket};
use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::{Server, SocketFile};
use crate::asyncio;
use crate::contexts::LazyContext;
use crate::ffi::call::call0;
use crate::ffi::cell::GilCopy;
use crate::ffi::context;
use crate::ffi::raise::{raised, settled};
use crate::ffi::runnable::{Job, runnable};
use crate::loop_ref::{LoopCore, try_report};
use crate::os_error::os_error;
use crate::transports::address;
use crate::transports::callback;
use crate::transports::endpoint::Endpoint;
use crate::transports::socket::{NewSocketTransport, SocketTransport};
use crate::transports::source::Source;

/// Nanoseconds without accepting after the process has run out of descriptors, or the kernel out of memory: the kernel
/// would go on to report the waiting connection, and the loop to try it.
const BACK_OFF: i64 = 1_000_000_000;

/// The most connections that are accepted in one turn: as many as asyncio accepts with its usual backlog.
const LARGEST_BATCH: u32 = 100;

/// A listening socket, in the engine.
#[pyclass(frozen, module = "ferrio._ferrio")]
pub(super) struct Listener {
    server: Py<Server>,
    socket: Py<PyAny>,
    /// What is to be removed when the socket is closed.
    file: Option<SocketFile>,
    source: Source,
    /// Whether accepted connections send small writes at once without being told: the kernel hands the option on.
    has_nodelay: bool,
    /// How many connections are accepted in the next turn.
    batch: GilCopy<Batch>,
    /// What ends a pause.
    timer: GilCopy<Option<TimerKey>>,
    closed: GilCopy<bool>,
}

/// A listener with connections to accept.
struct AcceptReady;

impl Job for AcceptReady {
    type Class = Listener;

    fn run(this: &Bound<'_, Listener>) -> Flow {
        let (py, listener) = (this.py(), this.get());
        let server = listener.server.bind(py);
        callback::run(server.get().core.bind(py), server.get().context.bind(py), server.as_any(), || {
            Listener::accept_batch(this)
        })
    }
}

/// A listener whose pause is over.
struct Resume;

impl Job for Resume {
    type Class = Listener;

    fn run(this: &Bound<'_, Listener>) -> Flow {
        let (py, listener) = (this.py(), this.get());
        let server = listener.server.bind(py);
        callback::run(server.get().core.bind(py), server.get().context.bind(py), server.as_any(), || {
            listener.timer.set(py, None);
            Listener::watch(this)
        })
    }
}

impl Listener {
    /// Makes a listener of a socket that is bound.
    pub(super) fn create(
        server: &Bound<'_, Server>,
        socket: Py<PyAny>,
        file: Option<SocketFile>,
    ) -> PyResult<Py<Self>> {
        let py = server.py();
        let fd = socket.bind(py).call_method0(intern!(py, "fileno"))?.extract()?;
        let source = Source::new(py, server.get().core.get(), fd)?;
        let is_internet = matches!(socket::local_address(source.fd()), Ok(Address::V4(_) | Address::V6(_)));
        let listener = Self {
            server: server.clone().unbind(),
            socket,
            file,
            has_nodelay: is_internet && socket::set_nodelay(source.fd()).is_ok(),
            source,
            batch: GilCopy::new(Batch::new(LARGEST_BATCH)),
            timer: GilCopy::new(None),
            closed: GilCopy::new(false),
        };
        Py::new(py, listener)
    }

    pub(super) fn socket<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.socket.bind(py)
    }

    fn core<'py>(&self, py: Python<'py>) -> &Bound<'py, LoopCore> {
        self.server.get().core.bind(py)
    }

    /// Has the reactor tell of connections.
    pub(super) fn watch(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let listener = this.get();
        if listener.closed.get(py) {
            return Ok(());
        }
        listener.source.watch::<AcceptReady>(listener.core(py), Direction::Read, this)
    }

    /// Accepts no more, for the time being.
    pub(super) fn unwatch(&self, py: Python<'_>) {
        self.source.unwatch(self.core(py), Direction::Read);
    }

    /// Closes the socket, its registration first.
    pub(super) fn close(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let listener = this.get();
        listener.closed.set(py, true);
        let core = listener.core(py);
        let timer = listener.timer.replace(py, None).and_then(|timer| core.get().engine(py).cancel_timer(timer));
        drop(timer);
        listener.source.remove(core);
        let closed = listener.socket(py).call_method0(intern!(py, "close")).map(drop);
        match &listener.file {
            Some(file) => closed.and(file.remove(py)),
            None => closed,
        }
    }

    /// Accepts a [batch](Batch) of connections.
    fn accept_batch(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let listener = this.get();
        let mut batch = listener.batch.get(py);
        for accepted in 0..batch.size() {
            // What was called for the connection before may have closed the server.
            if listener.closed.get(py) {
                return Ok(());
            }
            match socket::accept(listener.source.fd()) {
                Ok(Some((connection, peer))) => listener.accepted(py, connection, peer)?,
                Ok(None) => {
                    batch.was_not_filled(accepted);
                    listener.batch.set(py, batch);
                    return Ok(());
                }
                // The peer was quicker.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => return Self::accept_failed(this, &error),
            }
        }
        batch.was_filled();
        listener.batch.set(py, batch);
        Ok(())
    }

    /// Gives a connection its protocol and its transport.
    fn accepted(&self, py: Python<'_>, connection: OwnedFd, peer: Address) -> PyResult<()> {
        let server = self.server.bind(py);
        let core = self.core(py);
        if core.get().debug.get(py) {
            let peer = address::to_python(py, &peer)?;
            asyncio::logger(py)?.call_method1("debug", ("%r got a new connection from %r", server, peer))?;
        }
        let Some(factory) = server.get().factory.clone_ref(py) else { return Ok(()) };
        let (context, snapshot) = server.get().context_of_connection(py)?;
        let made = context::run_in(context.as_borrowed(), || call0(factory.bind(py))).flatten();
        let made = made.and_then(|protocol| {
            if self.closed.get(py) {
                // By the factory. Nobody would wait for this connection.
                return Ok(());
            }
            let context = Some(LazyContext::of(context, snapshot));
            let (endpoint, peer, server) = (Endpoint::Fd(connection), Some(peer), Some(server));
            let has_nodelay = self.has_nodelay;
            let new = NewSocketTransport { core, endpoint, protocol, context, peer, has_nodelay, waiter: None, server };
            SocketTransport::create(new).map(drop)
        });
        match made.map_err(|error| settled(py, error)) {
            Err(error) if !asyncio::leaves_the_loop(py, &error) => {
                let text = PyString::new(py, "Error on transport creation for incoming connection");
                let exception = raised(py, error).into_any();
                try_report(core.as_any(), &[("message", text.into_any()), ("exception", exception)])
            }
            made => made,
        }
    }

    #[cold]
    fn accept_failed(this: &Bound<'_, Self>, error: &io::Error) -> PyResult<()> {
        let py = this.py();
        let listener = this.get();
        let core = listener.core(py);
        let out_of_resources =
            matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM));
        if out_of_resources {
            let engine = core.get().engine(py);
            let work = runnable::<Resume>(this.clone().unbind());
            let timer = engine.push_at(engine.clock().now().saturating_add(BACK_OFF), work);
            listener.timer.set(py, Some(timer));
            listener.unwatch(py);
        }
        // Other errors are those of one connection, or of the network.
        let text = if out_of_resources { "socket.accept() out of system resource" } else { "socket.accept() failed" };
        let exception = raised(py, os_error(py, error)).into_any();
        let socket = asyncio::transport_socket_class(py)?.call1((listener.socket(py),))?;
        let text = PyString::new(py, text).into_any();
        try_report(core.as_any(), &[("message", text), ("exception", exception), ("socket", socket)])
    }
}

#[pymethods]
impl Listener {
    // There is nothing to clear here: the server does, which has the listeners in a cell.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.server)?;
        visit.call(&self.socket)
    }
}
