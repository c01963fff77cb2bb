//! What a coroutine that waits for much receives by itself, as [`transports::socket`](crate::transports) has it.
//!
//! What fifty connections have received lies in memory as ciphertext, as plaintext and in their readers before the
//! first of it is used. So large messages stay in the kernel until the coroutine runs that waits for them; it has them
//! decrypted into the `bytes` that it returns, and into another one that its reader keeps if there is more.

use ferrio::engine::Flow;
use pyo3::prelude::*;

use super::engine::{Decrypted, End};
use super::lower::Lower;
use super::{Phase, TlsTransport};
use crate::ffi::runnable::{Job, runnable};
use crate::loop_ref::LoopCore;
use crate::transports::native::Ran;
use crate::transports::protocol::Receiver;
use crate::transports::{Fetched, SocketTransport, callback};

/// A connection that has something in its engine for the protocol.
struct Advance;

impl Job for Advance {
    type Class = TlsTransport;

    fn run(this: &Bound<'_, TlsTransport>) -> Flow {
        let (py, transport) = (this.py(), this.get());
        callback::run(transport.core(py), transport.context.bind(py), this.as_any(), || TlsTransport::advance(this))
    }
}

impl TlsTransport {
    /// The transport below has much: wakes the coroutine that waits for as much. `None` if there is none.
    pub(super) fn wake_to_fetch(this: &Bound<'_, Self>, core: &Bound<'_, LoopCore>) -> PyResult<Option<Ran>> {
        let py = this.py();
        if !this.get().can_fetch(py) {
            return Ok(None);
        }
        match this.get().upper.receiver(py)? {
            Some(Receiver::Native(native)) => native.wake_to_fetch(py, core),
            _ => Ok(None),
        }
    }

    fn can_fetch(&self, py: Python<'_>) -> bool {
        self.is_direct
            && self.phase.get(py) == Phase::Wrapped
            && !self.flags.get(py).reading_paused
            && self.inbox.with(py, |inbox| inbox.is_empty())
            && self.engine.try_use(py).is_some()
    }

    /// `count` bytes at most, which is not 0, for a coroutine that was woken to fetch them, and what came behind them.
    /// `None` if there are none, or if it is no longer to have them.
    ///
    /// # Errors
    ///
    /// `MemoryError`, and what the program's exception handler raises. An error of the connection ends it as usual.
    pub(crate) fn fetch<'py>(this: &Bound<'py, Self>, count: usize) -> PyResult<Option<Fetched<'py>>> {
        let py = this.py();
        let own = this.get();
        if !own.can_fetch(py) {
            return Ok(None);
        }
        let Some(Lower::Socket(socket)) = own.lower(py) else { return Ok(None) };
        let fetched = SocketTransport::fetch_lent(socket.bind(py), |input| {
            let decrypted = own.decrypt_some(py, input, count);
            if decrypted.is_none() {
                own.take_in(py, input);
            }
            decrypted
        })?;
        let Some(decrypted) = fetched.flatten() else { return Ok(None) };
        let (Decrypted { data, rest }, end) = decrypted?;
        match end {
            End::Full | End::Again => {}
            // The library knows it now, and says so again.
            End::Closed => Self::advance_later(this)?,
            End::Failed(error) => {
                // An alert, for one. The error here is the one to tell.
                _ = Self::send_output(this);
                Self::fatal_error(this, error, "Fatal error on SSL protocol")?;
            }
        }
        Self::write_waiting(this, false)
            .or_else(|error| Self::fatal_error(this, error, "Fatal error on SSL protocol"))?;
        if own.flags.get(py).again {
            Self::advance_later(this)?;
        }
        Ok((!data.as_bytes().is_empty()).then_some(Fetched { data, rest }))
    }

    /// Hands what was left to a coroutine to the protocol, before the connection is closed or paused: it had come by
    /// then, and the coroutine finds it in its reader.
    pub(super) fn read_left(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let own = this.get();
        if !own.can_fetch(py) {
            return Ok(());
        }
        let Some(Lower::Socket(socket)) = own.lower(py) else { return Ok(()) };
        match SocketTransport::fetch_lent(socket.bind(py), |input| own.take_in(py, input))? {
            Some(()) => Self::read_some(this),
            None => Ok(()),
        }
    }

    /// What [`advance`](Self::advance) does may call the program, which is not for the coroutine's step.
    #[cold]
    fn advance_later(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let core = this.get().core(py).get();
        core.admit(py)?;
        core.push(py, runnable::<Advance>(this.clone().unbind()));
        Ok(())
    }
}
