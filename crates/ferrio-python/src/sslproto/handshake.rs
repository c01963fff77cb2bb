//! From the transport below to `connection_made`.

use ferrio::engine::{Flow, TimerKey};
use pyo3::exceptions::{PyConnectionAbortedError, PyException};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::engine::Progress;
use super::lower::Lower;
use super::{Phase, TlsTransport, Waiter, buffers};
use crate::asyncio;
use crate::ffi::raise::settled;
use crate::ffi::runnable::{Job, runnable};
use crate::futures::Future;
use crate::loop_ref::{nanos, seconds, try_report};
use crate::transports::callback;

/// A handshake that takes too long.
struct HandshakeTimeout;

impl Job for HandshakeTimeout {
    type Class = TlsTransport;

    fn run(this: &Bound<'_, TlsTransport>) -> Flow {
        let (py, transport) = (this.py(), this.get());
        callback::run(transport.core(py), transport.context.bind(py), this.as_any(), || {
            transport.timer.set(py, None);
            TlsTransport::give_up_handshake(this)
        })
    }
}

impl TlsTransport {
    /// The transport below is there.
    pub(super) fn begin(this: &Bound<'_, Self>, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = this.py();
        let own = this.get();
        let lower = Lower::new(transport);
        drop(own.lower.replace(py, Some(lower.clone_ref(py))));
        if own.flags.get(py).closed {
            // Before it was there: who wanted it has given up.
            return lower.force_close(py, None);
        }
        own.limit_lower(py)?;
        if own.core(py).get().debug.get(py) {
            Self::log_debug(this, "%r starts SSL handshake", None);
            let now = own.now(py);
            own.beginning.with(py, |beginning| {
                if let Some(beginning) = beginning {
                    beginning.start = Some(now);
                }
            });
        }
        own.phase.set(py, Phase::Handshake);
        let timer = Self::set_timer::<HandshakeTimeout>(this, own.timeouts.handshake)?;
        own.timer.set(py, Some(timer));
        Self::advance(this)
    }

    fn now(&self, py: Python<'_>) -> f64 {
        seconds(self.core(py).get().engine(py).clock().now())
    }

    pub(super) fn set_timer<J: Job<Class = Self>>(this: &Bound<'_, Self>, delay: f64) -> PyResult<TimerKey> {
        let py = this.py();
        let core = this.get().core(py).get();
        core.admit(py)?;
        let engine = core.engine(py);
        let due = engine.clock().now().saturating_add(nanos(delay));
        Ok(engine.push_at(due, runnable::<J>(this.clone().unbind())))
    }

    pub(super) fn cancel_timer(&self, py: Python<'_>) {
        if let Some(timer) = self.timer.replace(py, None) {
            drop(self.core(py).get().engine(py).cancel_timer(timer));
        }
    }

    fn give_up_handshake(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let own = this.get();
        if own.phase.get(py) != Phase::Handshake {
            return Ok(());
        }
        let given = match &own.timeouts.handshake_given {
            Some(given) => given.bind(py).str()?.to_string(),
            None => format!("{:.1}", own.timeouts.handshake),
        };
        let text = format!("SSL handshake is taking longer than {given} seconds: aborting the connection");
        Self::fatal_error(this, PyConnectionAbortedError::new_err(text), "Fatal error on transport")
    }

    /// Does what can be done in the phase that the connection is in: because there is input, room for output, or
    /// because somebody who wanted to do it found the engine in use.
    pub(super) fn advance(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let own = this.get();
        loop {
            if own.engine.try_use(py).is_none() {
                own.change(py, |flags| flags.again = true);
                return Ok(());
            }
            own.change(py, |flags| flags.again = false);
            match own.phase.get(py) {
                Phase::Wrapped => Self::read_some(this)?,
                Phase::Handshake => Self::shake_hands(this)?,
                Phase::Flushing => Self::flush(this)?,
                Phase::Shutdown => Self::shut_down(this)?,
                Phase::Unwrapped => drop(own.inbox.take(py)),
            }
            if !own.flags.get(py).again {
                return Ok(());
            }
        }
    }

    fn shake_hands(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let own = this.get();
        let result = own.with_engine(py, |engine| {
            buffers::give(py, engine.feed(py, own.inbox.take(py))?);
            let result = engine.shake_hands(py);
            buffers::give(py, engine.take_spent());
            result
        });
        match result {
            None => Ok(()),
            // What it has to say last goes with what the protocol writes first.
            Some(Ok(Progress::Done)) => Self::secured(this),
            Some(Ok(Progress::Again)) => Self::send_output(this),
            Some(Err(error)) if asyncio::is_ssl_error(py, &error) => {
                // The alert, which tells the peer what was wrong. If it cannot be sent, the error here is the one to
                // tell.
                _ = Self::send_output(this);
                Self::handshake_failed(this, error)
            }
            Some(Err(error)) => Err(error),
        }
    }

    fn secured(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let own = this.get();
        own.cancel_timer(py);
        own.phase.set(py, Phase::Wrapped);
        let was_made = own.flags.get(py).made;
        own.change(py, |flags| {
            flags.secured = true;
            flags.made = true;
        });
        let start = own.beginning.with(py, |beginning| beginning.as_ref().and_then(|beginning| beginning.start));
        if let Some(start) = start {
            let took = (own.now(py) - start) * 1e3;
            Self::log_debug(this, &format!("%r: SSL handshake took {took:.1} ms"), None);
        }
        if !was_made {
            own.upper.call1(intern!(py, "connection_made"), this.as_any())?;
        }
        Self::wake(this, Ok(()))?;
        Self::read_some(this)
    }

    pub(super) fn handshake_failed(this: &Bound<'_, Self>, error: PyErr) -> PyResult<()> {
        let py = this.py();
        let own = this.get();
        own.cancel_timer(py);
        own.phase.set(py, Phase::Unwrapped);
        let error = settled(py, error);
        let is_certificate = asyncio::is_certificate_error(py, &error);
        let message = match is_certificate {
            true => "SSL handshake failed on verifying the certificate",
            false => "SSL handshake failed",
        };
        let told = Self::fatal_error(this, error.clone_ref(py), message);
        told.and(Self::wake(this, Err(error)))
    }

    /// Tells who waits for the handshake, once.
    pub(super) fn wake(this: &Bound<'_, Self>, result: PyResult<()>) -> PyResult<()> {
        let py = this.py();
        let own = this.get();
        let result = result.map_err(|error| settled(py, error));
        let Some(waiter) = own.beginning.take(py).and_then(|beginning| beginning.waiter) else { return Ok(()) };
        let future = match &waiter {
            Waiter::Pair(future) | Waiter::Transport(future) => future.bind(py),
            Waiter::Any(future) => return tell(future.bind(py), result),
            Waiter::Server => {
                return match result {
                    Err(error) if own.core(py).get().debug.get(py) => {
                        let text = "Error on transport creation for incoming connection";
                        Self::report(this, text, &error)
                    }
                    _ => Ok(()),
                };
            }
        };
        if !future.get().is_pending(py) {
            return Ok(());
        }
        match (result, &waiter) {
            (Err(error), _) => Future::reject(future, asyncio::exception_of(py, &error)),
            (Ok(()), Waiter::Pair(_)) => {
                let protocol = own.upper.get(py);
                Future::resolve(future, (this, protocol).into_pyobject(py)?.into_any())
            }
            (Ok(()), _) => Future::resolve(future, this.clone().into_any()),
        }
    }

    /// Hands an error to the loop's exception handler.
    pub(super) fn report(this: &Bound<'_, Self>, message: &str, error: &PyErr) -> PyResult<()> {
        let py = this.py();
        let protocol = this.get().upper.get(py).unwrap_or_else(|| py.None().into_bound(py));
        let entries = [
            ("message", PyString::new(py, message).into_any()),
            ("exception", asyncio::exception_of(py, error)),
            ("transport", this.clone().into_any()),
            ("protocol", protocol),
        ];
        try_report(this.get().core(py).as_any(), &entries)
    }

    /// Ends the connection because of `error`, and tells of it, unless it is of a kind that networks are full of.
    ///
    /// # Errors
    ///
    /// `error` if it is no `Exception`: it is not for a connection to deal with.
    #[cold]
    pub(super) fn fatal_error(this: &Bound<'_, Self>, error: PyErr, message: &str) -> PyResult<()> {
        let py = this.py();
        let error = settled(py, error);
        if !error.is_instance_of::<PyException>(py) {
            return Err(error);
        }
        if let Some(lower) = this.get().lower(py) {
            lower.force_close(py, Some(asyncio::exception_of(py, &error)))?;
        }
        if error.is_instance_of::<pyo3::exceptions::PyOSError>(py) {
            Self::log_debug(this, &format!("%r: {message}"), Some(&error));
            return Ok(());
        }
        Self::report(this, message, &error)
    }
}

/// Tells a future of whatever kind. Can run Python code.
fn tell(future: &Bound<'_, PyAny>, result: PyResult<()>) -> PyResult<()> {
    let py = future.py();
    if future.call_method0(intern!(py, "done"))?.is_truthy()? {
        return Ok(());
    }
    match result {
        Ok(()) => future.call_method1(intern!(py, "set_result"), (py.None(),)),
        Err(error) => future.call_method1(intern!(py, "set_exception"), (asyncio::exception_of(py, &error),)),
    }
    .map(drop)
}
