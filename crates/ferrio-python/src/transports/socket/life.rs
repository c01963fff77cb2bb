//! Beginning, failing, closing, and the protocol's last call.
//!
//! `connection_made` and `connection_lost` are called by the ready queue, each once and in this order, whatever
//! happens: a transport queues itself when it is made, and again when it is lost.

use ferrio::engine::{Direction, Flow};
use ferrio::net::{Address, socket};
use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::PyWeakrefReference;

use super::info::Info;
use super::{Flags, Membership, NewSocketTransport, SocketTransport};
use crate::contexts::HasContext;
use crate::ffi::cell::{GilCell, GilCopy};
use crate::ffi::newborn;
use crate::ffi::runnable::{Job, runnable};
use crate::futures::Future;
use crate::transports::callback;
use crate::transports::protocol::Protocol;
use crate::transports::source::Source;
use crate::transports::transport::{DescriptorTransport, Transport};

/// What a transport knows only until it has begun.
#[derive(Debug)]
pub(super) struct Beginning {
    waiter: Option<Py<Future>>,
}

impl Beginning {
    pub(super) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.waiter)
    }
}

/// A transport that has been made: `connection_made`, and from then on it reads.
struct Begin;

impl Job for Begin {
    type Class = SocketTransport;

    fn run(this: &Bound<'_, SocketTransport>) -> Flow {
        let (py, transport) = (this.py(), this.get());
        callback::run_of(transport.core(py), transport, this.as_any(), || SocketTransport::begin(this))
    }
}

/// A transport whose connection is lost.
struct Lost;

impl Job for Lost {
    type Class = SocketTransport;

    fn run(this: &Bound<'_, SocketTransport>) -> Flow {
        let (py, transport) = (this.py(), this.get());
        let lost = || SocketTransport::connection_lost(this);
        let flow = callback::run_of(transport.core(py), transport, this.as_any(), lost);
        // It was the last callback.
        transport.lose_context(py);
        flow
    }
}

impl SocketTransport {
    /// Makes a transport, and queues its beginning.
    ///
    /// # Errors
    ///
    /// `RuntimeError` if another transport has the descriptor, or the loop is closed; `ValueError` if the socket is.
    /// The endpoint is dropped then.
    pub(crate) fn create<'py>(new: NewSocketTransport<'py>) -> PyResult<Bound<'py, Self>> {
        let py = new.core.py();
        let core = new.core.get();
        core.check_open(py)?;
        let fd = new.endpoint.number(py)?;
        core.descriptors().admit(py, fd)?;
        let source = Source::new(py, core, fd)?;
        let local = socket::local_address(source.fd()).ok();
        let peer = new.peer.or_else(|| socket::peer_address(source.fd()).ok());
        if !new.has_nodelay && matches!(local, Some(Address::V4(_) | Address::V6(_))) {
            // A stream socket of this family that is not TCP's does not know the option, and needs it not.
            _ = socket::set_nodelay(source.fd());
        }
        let transport = Self {
            core: new.core.clone().unbind(),
            context: GilCell::new(new.context),
            source,
            flags: GilCopy::new(Flags::default()),
            lost: GilCopy::new(0),
            wrote_in: GilCopy::new(0),
            read_size: GilCopy::default(),
            fetched: GilCopy::new(0),
            protocol: Protocol::new(new.protocol.unbind()),
            output: GilCell::default(),
            endpoint: GilCell::new(new.endpoint),
            info: GilCell::new(Info::new(local, peer)),
            server: GilCell::default(),
            beginning: GilCell::new(Some(Box::new(Beginning { waiter: new.waiter }))),
            failure: GilCell::default(),
        };
        let this = newborn::make(py, transport)?.into_bound(py);
        let weak = PyWeakrefReference::new(&this)?.unbind();
        if let Some(server) = new.server {
            let number = server.get().attach(py, weak.clone_ref(py));
            let membership = Membership { server: server.clone().unbind(), number };
            drop(this.get().server.replace(py, Some(membership)));
        }
        core.descriptors().insert(py, fd, weak);
        core.push(py, runnable::<Begin>(this.clone().unbind()));
        Ok(this)
    }

    fn begin(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        let protocol = transport.protocol.get(py);
        let made = Self::tell_made(this);
        let flags = transport.flags.get(py);
        let watched = if flags.closing || flags.paused { Ok(()) } else { Self::watch_reads(this) };
        let watched = watched.or_else(|error| Self::fatal_error(this, error, "Fatal read error on socket transport"));
        let waiter = transport.beginning.take(py).and_then(|beginning| beginning.waiter);
        Self::tell_waiter_of_beginning(this, protocol, waiter)?;
        made.and(watched)
    }

    pub(super) fn resume_reading(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        let flags = transport.flags.get(py);
        if flags.closing || !flags.paused {
            return Ok(());
        }
        transport.change(py, |flags| flags.paused = false);
        // Before it has begun, the beginning will see to it.
        let has_begun = transport.beginning.with(py, |beginning| beginning.is_none());
        if has_begun && !flags.input_ended { Self::watch_reads(this) } else { Ok(()) }
    }

    /// Closes the connection when what is buffered has been sent.
    pub(super) fn close(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        Self::send_deferred(this)?;
        if transport.flags.get(py).closing {
            return Ok(());
        }
        transport.change(py, |flags| flags.closing = true);
        transport.unwatch(py, Direction::Read);
        if transport.has_output(py) { Ok(()) } else { Self::lose(this) }
    }

    /// Ends the connection now: what is buffered is dropped.
    pub(crate) fn force_close(this: &Bound<'_, Self>, failure: Option<Py<PyAny>>) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        if transport.is_lost(py) {
            return Ok(());
        }
        transport.send_last(py);
        if transport.has_output(py) {
            drop(transport.with_output(py, |output| output.buffer.take()));
        }
        transport.unwatch(py, Direction::Write);
        transport.change(py, |flags| flags.closing = true);
        transport.unwatch(py, Direction::Read);
        drop(transport.failure.replace(py, failure));
        Self::lose(this)
    }

    fn lose(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        transport.lost.set(py, 1);
        let core = transport.core(py).get();
        core.admit(py)?;
        core.push(py, runnable::<Lost>(this.clone().unbind()));
        Ok(())
    }

    /// Tells the protocol, and gives up everything.
    pub(super) fn connection_lost(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        let failure = transport.failure.take(py).unwrap_or_else(|| py.None()).into_bound(py);
        Self::tell_waiter(this, Some(&failure))?;
        let told = Self::tell_lost(this, &failure);
        let closed = Self::give_up(this);
        transport.protocol.set(py, None);
        told.and(closed)
    }
}
