//! `Server`: listening sockets, and the transports of the connections that they accepted.
//!
//! | file | topic |
//! |---|---|
//! | [`listener`] | one listening socket: accepting in batches, backing off |
//! | [`socket_file`] | the file of a Unix socket |
//! | [`methods`] | what Python sees |
//!
//! The reactor keeps a server that is serving; its transports keep it until they are lost. The server knows its
//! transports by weak references only, so that one which nobody keeps can go, and complain that it was not closed.

mod listener;
mod methods;
mod socket_file;

pub(crate) use socket_file::SocketFile;

use pyo3::PyTraverseError;
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};
use slab::Slab;

use self::listener::Listener;
use crate::ffi::cell::{GilCell, GilCopy};
use crate::ffi::context;
use crate::ffi::newborn;
use crate::ffi::snapshot::Snapshot;
use crate::futures::Future;
use crate::loop_ref::{LoopCore, LoopRef};

/// A server, as `asyncio.Server`.
#[pyclass(frozen, dict, weakref, module = "ferrio")]
pub(crate) struct Server {
    core: Py<LoopCore>,
    factory: GilCell<Option<Py<PyAny>>>,
    /// Each connection gets a copy.
    context: Py<PyAny>,
    /// What the connections share of it until they have one.
    snapshot: GilCell<Option<Snapshot>>,
    backlog: i32,
    serving: GilCopy<bool>,
    state: GilCell<State>,
}

#[derive(Default)]
struct State {
    /// None once the server is closed.
    listeners: Option<Vec<Py<Listener>>>,
    clients: Slab<Py<PyWeakrefReference>>,
    /// Who waits for it to be closed and without connections; None once it has come to that.
    waiters: Option<Vec<Py<Future>>>,
    /// What `serve_forever()` waits for.
    forever: Option<Py<Future>>,
}

impl Server {
    /// The methods that are `async def` in asyncio.
    pub(crate) const COROUTINE_FUNCTIONS: &[&str] =
        &["__aenter__", "__aexit__", "serve_forever", "start_serving", "wait_closed"];

    /// Makes a server of sockets that are bound, and in the context that is current. The files are removed when it
    /// closes.
    pub(crate) fn create<'py>(
        core: &Bound<'py, LoopCore>,
        sockets: Vec<(Py<PyAny>, Option<SocketFile>)>,
        factory: Py<PyAny>,
        backlog: i32,
    ) -> PyResult<Bound<'py, Self>> {
        let py = core.py();
        let server = Self {
            core: core.clone().unbind(),
            factory: GilCell::new(Some(factory)),
            context: context::copy_current(py)?,
            snapshot: GilCell::new(None),
            backlog,
            serving: GilCopy::new(false),
            state: GilCell::new(State { waiters: Some(Vec::new()), ..State::default() }),
        };
        let this = newborn::make(py, server)?.into_bound(py);
        let listeners = sockets.into_iter().map(|(socket, file)| Listener::create(&this, socket, file));
        let listeners = listeners.collect::<PyResult<Vec<_>>>()?;
        this.get().state.with(py, |state| state.listeners = Some(listeners));
        Ok(this)
    }

    /// A context for a connection, and what it was made of. Runs Python code.
    fn context_of_connection<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, Option<Snapshot>)> {
        let own = self.context.bind(py);
        let kept = self.snapshot.with(py, |snapshot| match snapshot {
            Some(snapshot) if snapshot.is_of(own) => Some(snapshot.clone_ref(py)),
            _ => None,
        });
        let snapshot = match kept {
            Some(snapshot) => snapshot,
            None => match Snapshot::of(own)? {
                Some(snapshot) => {
                    drop(self.snapshot.replace(py, Some(snapshot.clone_ref(py))));
                    snapshot
                }
                None => return Ok((context::copy(own)?.into_bound(py), None)),
            },
        };
        Ok((snapshot.context(py)?, Some(snapshot)))
    }

    /// Begins to listen and to accept, unless it has begun; on all sockets or on none.
    ///
    /// # Errors
    ///
    /// What `listen` reports; `RuntimeError` if the server or the loop is closed.
    pub(crate) fn start(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let server = this.get();
        if server.is_closed(py) {
            return Err(PyRuntimeError::new_err(format!("server {} is closed", this.repr()?)));
        }
        if server.serving.replace(py, true) {
            return Ok(());
        }
        let listeners = server.listeners(py);
        let started = listeners.iter().try_for_each(|listener| {
            let listener = listener.bind(py);
            listener.get().socket(py).call_method1(intern!(py, "listen"), (server.backlog,))?;
            Listener::watch(listener)
        });
        if started.is_err() {
            server.serving.set(py, false);
            listeners.iter().for_each(|listener| listener.get().unwatch(py));
        }
        started
    }

    fn listeners(&self, py: Python<'_>) -> Vec<Py<Listener>> {
        self.state.with(py, |state| {
            state.listeners.as_ref().map_or_else(Vec::new, |all| all.iter().map(|one| one.clone_ref(py)).collect())
        })
    }

    fn is_closed(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.listeners.is_none())
    }

    /// Takes a transport among the server's, and returns its number.
    pub(super) fn attach(&self, py: Python<'_>, transport: Py<PyWeakrefReference>) -> usize {
        self.state.with(py, |state| state.clients.insert(transport))
    }

    /// Forgets a transport that is lost.
    pub(super) fn detach(&self, py: Python<'_>, number: usize) {
        let gone = self.state.with(py, |state| state.clients.try_remove(number));
        drop(gone);
        self.wake_if_over(py);
    }

    fn wake_if_over(&self, py: Python<'_>) {
        let waiters = self.state.with(py, |state| {
            if state.listeners.is_none() && state.clients.is_empty() { state.waiters.take() } else { None }
        });
        for waiter in waiters.into_iter().flatten() {
            let waiter = waiter.bind(py);
            if waiter.get().is_pending(py)
                && let Err(error) = Future::resolve(waiter, py.None().into_bound(py))
            {
                // The loop is closed, and with it whoever waited.
                error.write_unraisable(py, Some(waiter));
            }
        }
    }

    /// Stops listening. The connections go on.
    pub(crate) fn close(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let server = this.get();
        let Some(listeners) = server.state.with(py, |state| state.listeners.take()) else { return Ok(()) };
        server.serving.set(py, false);
        let mut result = Ok(());
        for listener in listeners {
            result = result.and(Listener::close(listener.bind(py)));
        }
        if let Some(forever) = server.state.with(py, |state| state.forever.take())
            && forever.get().is_pending(py)
        {
            Future::cancel(forever.bind(py), None)?;
        }
        server.wake_if_over(py);
        result
    }

    /// Calls the method of every transport that is left.
    fn for_each_client(&self, py: Python<'_>, method: &str) -> PyResult<()> {
        let clients = self.state.with(py, |state| state.clients.iter().map(|(_, weak)| weak.clone_ref(py)).collect());
        let clients: Vec<Py<PyWeakrefReference>> = clients;
        clients
            .into_iter()
            .filter_map(|weak| weak.bind(py).upgrade())
            .try_for_each(|transport| transport.call_method0(method).map(drop))
    }

    /// A future that is done when the server is closed and its connections are gone; `None` if that is so.
    fn waiter(&self, py: Python<'_>) -> PyResult<Option<Py<Future>>> {
        if self.state.with(py, |state| state.waiters.is_none()) {
            return Ok(None);
        }
        let waiter = Py::new(py, self.future(py)?)?;
        let kept = waiter.clone_ref(py);
        // Making it may have run anything.
        let refused = self.state.with(py, |state| match &mut state.waiters {
            Some(waiters) => {
                waiters.push(kept);
                None
            }
            None => Some(kept),
        });
        Ok(if refused.is_none() { Some(waiter) } else { None })
    }

    /// What `serve_forever()` waits for, once it is serving.
    fn begin_forever(this: &Bound<'_, Self>) -> PyResult<Py<Future>> {
        let py = this.py();
        let server = this.get();
        if server.state.with(py, |state| state.forever.is_some()) {
            let text = format!("server {} is already being awaited on serve_forever()", this.repr()?);
            return Err(PyRuntimeError::new_err(text));
        }
        Self::start(this)?;
        let forever = Py::new(py, server.future(py)?)?;
        let kept = forever.clone_ref(py);
        drop(server.state.with(py, |state| state.forever.replace(kept)));
        Ok(forever)
    }

    fn future(&self, py: Python<'_>) -> PyResult<Future> {
        Future::new(py, LoopRef::Ours(self.core.clone_ref(py)))
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.core)?;
        visit.call(&self.context)?;
        self.snapshot.traverse(visit, |snapshot, visit| match snapshot {
            Some(snapshot) => snapshot.traverse(visit),
            None => Ok(()),
        })?;
        self.factory.traverse(visit, |factory, visit| visit.call(factory))?;
        self.state.traverse(visit, |state, visit| {
            state.listeners.iter().flatten().try_for_each(|listener| visit.call(listener))?;
            state.clients.iter().try_for_each(|(_, weak)| visit.call(weak))?;
            state.waiters.iter().flatten().try_for_each(|waiter| visit.call(waiter))?;
            visit.call(&state.forever)
        })
    }
}
