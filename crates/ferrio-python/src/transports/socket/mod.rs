//! `SocketTransport`: a connection over a stream socket, as asyncio's selector loop has it.
//!
//! | file | topic |
//! |---|---|
//! | [`read`] | from readiness to the protocol |
//! | [`write`](mod@write) | from the protocol to the kernel, and flow control |
//! | [`file`](mod@file) | a file that is sent by the kernel |
//! | [`life`] | beginning, failing, closing, and the protocol's last call |
//! | [`methods`] | what Python sees |
//! | [`info`] | `get_extra_info` |
//!
//! # States
//!
//! | state | told by | reads | writes | ends with |
//! |---|---|---|---|---|
//! | open | neither `closing` nor `lost` | unless `paused` | sent at once, else buffered | `close()`, `abort()`, an error, an end of file |
//! | closing | `closing` | no | what is buffered is sent | the buffer is empty, `abort()`, an error |
//! | lost | `lost` is not 0 | no | dropped and counted | the ready queue, which calls `connection_lost` |
//! | closed | the endpoint is closed | no | dropped and counted | |
//!
//! Nothing goes up in this table.

mod file;
mod info;
mod life;
mod methods;
mod read;
mod write;

pub(crate) use file::SendingFile;
pub(crate) use read::Fetched;
pub(crate) use write::Write;

use std::sync::OnceLock;

use ferrio::engine::Direction;
use ferrio::net::Address;
use ferrio::stream::ReadSize;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, ffi};

use self::info::Info;
use self::life::Beginning;
use self::write::Output;
use super::endpoint::Endpoint;
use super::log;
use super::protocol::Protocol;
use super::server::Server;
use super::source::Source;
use super::transport::{DescriptorTransport, Transport, give_descriptor_back};
use crate::contexts::{HasContext, SteppedContext};
use crate::ffi::cell::{GilCell, GilCopy};
use crate::ffi::finalizer::{Finalize, FinalizeFirst};
use crate::futures::Future;
use crate::loop_ref::LoopCore;

/// A connection over a stream socket, as `asyncio.Transport`.
#[pyclass(frozen, dict, weakref, module = "ferrio")]
pub(crate) struct SocketTransport {
    core: Py<LoopCore>,
    /// What the protocol's methods are called in.
    context: GilCell<SteppedContext>,
    source: Source,
    flags: GilCopy<Flags>,
    /// How often something was written since the connection was lost, and 1 for the loss.
    lost: GilCopy<u32>,
    /// The number of the callback that wrote last.
    wrote_in: GilCopy<u32>,
    read_size: GilCopy<ReadSize>,
    /// The turn of the loop in which a coroutine fetched by itself what there was.
    fetched: GilCopy<u64>,
    protocol: Protocol,
    /// None before something has waited to be sent: most connections never need it.
    output: GilCell<Option<Box<Output>>>,
    endpoint: GilCell<Endpoint>,
    info: GilCell<Info>,
    server: GilCell<Option<Membership>>,
    beginning: GilCell<Option<Box<Beginning>>>,
    /// What `connection_lost` will be given.
    failure: GilCell<Option<Py<PyAny>>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Flags {
    /// `close()` was called, or something ended the connection.
    closing: bool,
    /// `pause_reading()` was called last.
    paused: bool,
    /// The peer sends no more; the protocol has been told, and keeps the connection.
    input_ended: bool,
    /// `write_eof()` was called.
    output_ended: bool,
    /// What waits to be sent was not offered to the socket yet: that is done when the callback ends, or the turn.
    deferred: bool,
    /// The callback that wrote last has written for another time.
    in_pieces: bool,
    /// A file is being sent, and nothing else may be.
    sending_file: bool,
    /// What there is was left to a coroutine that was woken to fetch it.
    left: bool,
    /// What there is to receive is no data, and not to be left to anybody.
    at_end: bool,
}

/// A transport is one of a server's, under a number.
struct Membership {
    server: Py<Server>,
    number: usize,
}

/// What a transport is made of.
pub(crate) struct NewSocketTransport<'py> {
    pub(crate) core: &'py Bound<'py, LoopCore>,
    pub(crate) endpoint: Endpoint,
    pub(crate) protocol: Bound<'py, PyAny>,
    pub(crate) context: SteppedContext,
    /// The peer's address, where it is known already.
    pub(crate) peer: Option<Address>,
    /// Whether small writes are sent at once already.
    pub(crate) has_nodelay: bool,
    /// Gets the transport and the protocol once `connection_made` has been called.
    pub(crate) waiter: Option<Py<Future>>,
    pub(crate) server: Option<&'py Bound<'py, Server>>,
}

impl SocketTransport {
    fn core<'a, 'py>(&'a self, py: Python<'py>) -> &'a Bound<'py, LoopCore> {
        self.core.bind(py)
    }

    #[inline]
    fn change(&self, py: Python<'_>, change: impl FnOnce(&mut Flags)) {
        let mut flags = self.flags.get(py);
        change(&mut flags);
        self.flags.set(py, flags);
    }

    #[inline]
    fn is_lost(&self, py: Python<'_>) -> bool {
        self.lost.get(py) != 0
    }

    /// `is_closing`, for who knows the class.
    #[inline]
    pub(crate) fn closes(&self, py: Python<'_>) -> bool {
        self.flags.get(py).closing
    }

    /// Ends the watch in `direction`, if there is one. That of input can be in place while reading is paused.
    fn unwatch(&self, py: Python<'_>, direction: Direction) {
        self.source.unwatch(self.core(py), direction);
    }

    /// Logs a message about the transport in debug mode; `error` goes with it.
    fn log_debug(this: &Bound<'_, Self>, message: &str, error: Option<&PyErr>) {
        log::debug(this.get().core(this.py()), this.as_any(), "debug", message, error);
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.core)?;
        self.context
            .traverse(visit, |context, visit| context.iter().try_for_each(|context| context.traverse(visit)))?;
        self.protocol.traverse(visit)?;
        self.endpoint.traverse(visit, |endpoint, visit| endpoint.traverse(visit))?;
        self.output.traverse(visit, |output, visit| match output {
            Some(output) => visit.call(&output.waiter),
            None => Ok(()),
        })?;
        self.info.traverse(visit, |info, visit| info.traverse(visit))?;
        self.server.traverse(visit, |server, visit| visit.call(server.as_ref().map(|server| &server.server)))?;
        self.beginning.traverse(visit, |beginning, visit| match beginning {
            Some(beginning) => beginning.traverse(visit),
            None => Ok(()),
        })?;
        self.failure.traverse(visit, |failure, visit| visit.call(failure))
    }

    fn clear(&self, py: Python<'_>) {
        self.protocol.set(py, None);
        drop((self.failure.take(py), self.beginning.take(py)));
        drop(self.take_waiter(py));
    }
}

impl Transport for SocketTransport {
    fn parties<'a, 'py>(this: &'a Bound<'py, Self>) -> (&'a Bound<'py, LoopCore>, &'a Protocol) {
        (this.get().core(this.py()), &this.get().protocol)
    }
}

impl DescriptorTransport for SocketTransport {
    fn is_open(this: &Bound<'_, Self>) -> bool {
        this.get().endpoint.with(this.py(), |endpoint| endpoint.is_open())
    }

    fn give_up(this: &Bound<'_, Self>) -> PyResult<()> {
        let (py, transport) = (this.py(), this.get());
        give_descriptor_back(transport.core(py), &transport.source);
        let closed = transport.endpoint.take(py).close(py);
        if let Some(Membership { server, number }) = transport.server.take(py) {
            server.get().detach(py, number);
        }
        closed
    }

    fn force_close(this: &Bound<'_, Self>, failure: Option<Py<PyAny>>) -> PyResult<()> {
        Self::force_close(this, failure)
    }
}

impl HasContext for SocketTransport {
    #[inline]
    fn with_context<R>(&self, py: Python<'_>, f: impl FnOnce(&mut SteppedContext) -> R) -> R {
        self.context.with(py, f)
    }
}

impl Finalize for SocketTransport {
    /// A transport that was not closed says so, and closes its socket.
    fn finalize(this: &Bound<'_, Self>) {
        Self::close_unclosed(this);
    }
}

impl FinalizeFirst for SocketTransport {
    fn is_due(this: &Bound<'_, Self>) -> bool {
        Self::is_open(this)
    }

    fn deallocator() -> &'static OnceLock<ffi::destructor> {
        static DEALLOCATOR: OnceLock<ffi::destructor> = OnceLock::new();
        &DEALLOCATOR
    }
}
