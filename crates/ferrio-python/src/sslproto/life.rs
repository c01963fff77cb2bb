//! Closing, failing, the end.

use ferrio::engine::Flow;
use pyo3::exceptions::{PyConnectionAbortedError, PyConnectionResetError, PyException, PyTimeoutError};
use pyo3::intern;
use pyo3::prelude::*;

use super::engine::Progress;
use super::{Phase, TlsTransport, buffers};
use crate::asyncio;
use crate::ffi::raise::raised;
use crate::ffi::runnable::Job;
use crate::transports::{callback, log};

/// A closing that takes too long.
struct ShutdownTimeout;

impl Job for ShutdownTimeout {
    type Class = TlsTransport;

    fn run(this: &Bound<'_, TlsTransport>) -> Flow {
        let (py, transport) = (this.py(), this.get());
        callback::run(transport.core(py), transport.context.bind(py), this.as_any(), || {
            transport.timer.set(py, None);
            TlsTransport::give_up_shutdown(this)
        })
    }
}

impl TlsTransport {
    /// `close()`, and what the peer's closing leads to.
    pub(super) fn start_shutdown(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let own = this.get();
        match own.phase.get(py) {
            Phase::Flushing | Phase::Shutdown | Phase::Unwrapped => {
                own.change(py, |flags| flags.closed = true);
                Ok(())
            }
            Phase::Handshake => Self::abort(this, None),
            Phase::Wrapped => {
                own.change(py, |flags| flags.closed = true);
                own.phase.set(py, Phase::Flushing);
                Self::limit_shutdown(this)?;
                Self::advance(this)
            }
        }
    }

    /// Sets the timer of the closing, unless it is set.
    fn limit_shutdown(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let own = this.get();
        if own.timer.get(py).is_none() {
            let timer = Self::set_timer::<ShutdownTimeout>(this, own.timeouts.shutdown)?;
            own.timer.set(py, Some(timer));
        }
        Ok(())
    }

    fn give_up_shutdown(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        match this.get().lower(py) {
            Some(lower) if matches!(this.get().phase.get(py), Phase::Flushing | Phase::Shutdown) => {
                let error = PyTimeoutError::new_err("SSL shutdown timed out");
                lower.force_close(py, Some(raised(py, error).into_any()))
            }
            _ => Ok(()),
        }
    }

    /// Hands over and sends what is left, and says then that there will be no more.
    pub(super) fn flush(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let own = this.get();
        Self::read_some(this)?;
        if own.phase.get(py) != Phase::Flushing {
            return Ok(());
        }
        // Nothing waits: what the library still has to say, a session's ticket for one, goes with the last word.
        if !own.has_written_all(py) {
            // Where the peer has left, the transport below takes all that it gets, and closes behind it.
            if let Err(error) = Self::write_waiting(this, own.flags.get(py).lower_ended) {
                return Self::fatal_error(this, error, "Fatal error on SSL protocol");
            }
            if own.phase.get(py) != Phase::Flushing || !own.has_written_all(py) {
                return Ok(());
            }
        }
        own.phase.set(py, Phase::Shutdown);
        Self::shut_down(this)
    }

    /// Says that there will be no more, and ends when the peer has said it too.
    pub(super) fn shut_down(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let own = this.get();
        if !own.flags.get(py).lower_ended {
            let result = own.with_engine(py, |engine| {
                buffers::give(py, engine.feed(py, own.inbox.take(py))?);
                let result = engine.close(py);
                buffers::give(py, engine.take_spent());
                result
            });
            let Some(result) = result else { return Ok(()) };
            match result {
                Ok(Progress::Done) => {}
                Ok(Progress::Again) => return Self::send_output(this),
                Err(error) if asyncio::is_ssl_error(py, &error) => {
                    // An alert. The error here is the one to tell.
                    _ = Self::send_output(this);
                    own.cancel_timer(py);
                    return Self::fatal_error(this, error, "Fatal error on transport");
                }
                Err(error) => return Err(error),
            }
        }
        Self::send_output(this)?;
        Self::tell_end(this)?;
        Self::close_lower(this)
    }

    /// Has the transport below close in the next turn. The timer goes on: a peer that does not read can delay it for
    /// ever.
    fn close_lower(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let own = this.get();
        // The protocol may have aborted.
        let Some(lower) = own.lower(py) else { return Ok(()) };
        Self::limit_shutdown(this)?;
        let close = lower.object(py).getattr(intern!(py, "close"))?;
        own.core(py).call_method1(intern!(py, "call_soon"), (close,)).map(drop)
    }

    /// Ends the connection now, with `failure` as what `connection_lost` is given.
    pub(super) fn abort(this: &Bound<'_, Self>, failure: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let py = this.py();
        let own = this.get();
        own.change(py, |flags| flags.closed = true);
        let was_shaking_hands = own.phase.replace(py, Phase::Unwrapped) == Phase::Handshake;
        if let Some(lower) = own.lower(py) {
            lower.force_close(py, failure)?;
        }
        if was_shaking_hands { Self::wake(this, Err(aborted())) } else { Ok(()) }
    }

    /// The transport below has received an end of file. Returns whether it is to stay open.
    pub(super) fn lower_ended(this: &Bound<'_, Self>) -> PyResult<bool> {
        let py = this.py();
        let own = this.get();
        own.change(py, |flags| flags.lower_ended = true);
        Self::log_debug(this, "%r received EOF", None);
        let ended = match own.phase.get(py) {
            Phase::Handshake => {
                let error = PyConnectionResetError::new_err(());
                Self::handshake_failed(this, error).map(|()| false)
            }
            Phase::Wrapped => {
                own.phase.set(py, Phase::Flushing);
                match own.flags.get(py).reading_paused {
                    true => Ok(true),
                    false => Self::advance(this).map(|()| false),
                }
            }
            Phase::Flushing | Phase::Shutdown => Self::advance(this).map(|()| false),
            Phase::Unwrapped => Ok(false),
        };
        if let Err(error) = &ended
            && error.is_instance_of::<PyException>(py)
            && let Some(lower) = own.lower(py)
        {
            lower.close(py)?;
        }
        ended
    }

    /// The transport below is gone.
    pub(super) fn lower_lost(this: &Bound<'_, Self>, failure: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let py = this.py();
        let own = this.get();
        own.cancel_timer(py);
        own.late_writes.set(py, own.late_writes.get(py).saturating_add(1));
        drop(own.output.with(py, super::write::Output::clear));
        let phase = own.phase.replace(py, Phase::Unwrapped);
        let flags = own.flags.get(py);
        let tells = phase != Phase::Handshake && flags.made && !flags.lost_told;
        own.change(py, |flags| {
            flags.closed = true;
            flags.lost_told |= tells;
        });
        let told = match own.upper.get(py) {
            Some(protocol) if tells => {
                let method = protocol.getattr(intern!(py, "connection_lost"));
                let call_soon = |method| own.core(py).call_method1(intern!(py, "call_soon"), (method, &failure));
                method.and_then(call_soon).map(drop)
            }
            _ => Ok(()),
        };
        let woken = Self::wake(this, Err(failure.map_or_else(aborted, PyErr::from_value)));
        own.upper.set(py, None);
        drop(own.lower.take(py));
        told.and(woken)
    }

    pub(super) fn warn_unclosed(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let own = this.get();
        if own.flags.get(py).closed {
            return Ok(());
        }
        own.change(py, |flags| flags.closed = true);
        log::warn_unclosed(this.as_any())
    }
}

/// A handshake that ended with nobody to blame. Nobody is told of a connection that is not there.
pub(crate) fn aborted() -> PyErr {
    PyConnectionAbortedError::new_err("SSL handshake was aborted")
}
