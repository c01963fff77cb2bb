//! What was received, to the protocol.
//!
//! # Budget of a received message
//!
//! On the direct engine: what the transport below needs, the library's decryption, and one `bytes` of the message's
//! size. The ciphertext lies where the transport below has received it; all records that have come are handed over at
//! once. A coroutine that waits for much in a stream of ours takes it by itself: see [`fetch`](super::fetch).

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::engine::{Decrypted, End, Engine};
use super::{Phase, TlsTransport, buffers};
use crate::asyncio;
use crate::ffi::buffer::{with_bytes_mut, with_memory};
use crate::ffi::bytes;
use crate::ffi::call::call1;
use crate::transports::native::Ran;
use crate::transports::protocol::Receiver;

/// What is decrypted right into a `bytes`, which is then shrunk, in bytes. Less is quicker copied.
const LARGE: usize = 4096;

impl TlsTransport {
    /// Keeps ciphertext until [`advance`](Self::advance). Runs no Python code.
    #[inline]
    pub(super) fn take_in(&self, py: Python<'_>, data: &[u8]) {
        self.inbox.with(py, |inbox| {
            if inbox.capacity() == 0 {
                *inbox = buffers::take(py);
            }
            inbox.extend_from_slice(data);
        });
    }

    /// Ciphertext has come. Where it can be decrypted at once, it is not copied. Tells whose code has run.
    #[inline]
    pub(super) fn receive(this: &Bound<'_, Self>, data: &[u8]) -> PyResult<Ran> {
        let py = this.py();
        let own = this.get();
        let is_simple = own.phase.get(py) == Phase::Wrapped
            && !own.flags.get(py).reading_paused
            && own.inbox.with(py, |inbox| inbox.is_empty())
            && own.engine.try_use(py).is_some();
        if !is_simple {
            own.take_in(py, data);
            return Self::advance(this).map(|()| Ran::Anybodys);
        }
        let ran = Self::read_behind(this, data)?;
        if own.flags.get(py).again { Self::advance(this).map(|()| Ran::Anybodys) } else { Ok(ran) }
    }

    /// Hands over what can be decrypted, and sends what the library, or the protocol, has to say to it.
    pub(super) fn read_some(this: &Bound<'_, Self>) -> PyResult<()> {
        Self::read_behind(this, &[]).map(drop)
    }

    /// The same, with `input` behind what was received before.
    fn read_behind(this: &Bound<'_, Self>, input: &[u8]) -> PyResult<Ran> {
        let py = this.py();
        let own = this.get();
        if !matches!(own.phase.get(py), Phase::Wrapped | Phase::Flushing) {
            return Ok(Ran::Anybodys);
        }
        let delivered = match own.flags.get(py).reading_paused {
            true => Ok(Ran::Anybodys),
            false => Self::deliver(this, input),
        };
        // Whoever closes sends the last of it, and more.
        let sends = own.phase.get(py) != Phase::Flushing;
        delivered
            .and_then(|ran| if sends { Self::write_waiting(this, false).map(|()| ran) } else { Ok(ran) })
            .and_then(|ran| Self::control_lower_reading(this).map(|()| ran))
            .or_else(|error| Self::fatal_error(this, error, "Fatal error on SSL protocol").map(|()| Ran::Anybodys))
    }

    fn deliver(this: &Bound<'_, Self>, input: &[u8]) -> PyResult<Ran> {
        let py = this.py();
        let own = this.get();
        let mut input = input;
        // By the library's functions, to a protocol of ours: then nobody else has been asked for anything.
        let mut ran = if own.is_direct { Ran::Ours } else { Ran::Anybodys };
        // The protocol can do anything in between, pause or close for two.
        while matches!(own.phase.get(py), Phase::Wrapped | Phase::Flushing) && !own.flags.get(py).reading_paused {
            let Some(receiver) = own.upper.receiver(py)? else { return Ok(Ran::Anybodys) };
            if !matches!(receiver, Receiver::Native(_)) {
                ran = Ran::Anybodys;
            }
            // The engine keeps what it does not use.
            let input = std::mem::take(&mut input);
            let end = match &receiver {
                Receiver::Data(data_received) => {
                    let Some((data, end)) = own.decrypt_to_bytes(py, input) else { return own.put_off(py, input) };
                    let data = data?;
                    if !data.as_bytes().is_empty() {
                        call1(data_received.bind(py), data.as_any())?;
                    }
                    end
                }
                Receiver::Native(native) => {
                    let Some((received, end)) = own.decrypt(py, input, |data| {
                        if !data.is_empty() {
                            native.take_in(py, data);
                        }
                        !data.is_empty()
                    }) else {
                        return own.put_off(py, input);
                    };
                    if received && native.received(py)? == Ran::Anybodys {
                        ran = Ran::Anybodys;
                    }
                    end
                }
                Receiver::Buffered { get_buffer, buffer_updated } => {
                    match own.decrypt_into_buffer(py, input, get_buffer.bind(py), buffer_updated.bind(py))? {
                        Some(end) => end,
                        None => return own.put_off(py, input),
                    }
                }
            };
            match end {
                End::Full => {}
                End::Again => return Ok(ran),
                End::Closed => {
                    Self::tell_end(this)?;
                    return Self::start_shutdown(this).map(|()| Ran::Anybodys);
                }
                End::Failed(error) => {
                    // An alert, for one.
                    Self::send_output(this)?;
                    return Err(error);
                }
            }
        }
        Ok(Ran::Anybodys)
    }

    /// Keeps input that came while the engine is in use: who uses it will come back for it.
    #[cold]
    fn put_off(&self, py: Python<'_>, input: &[u8]) -> PyResult<Ran> {
        if !input.is_empty() {
            self.take_in(py, input);
        }
        Ok(Ran::Anybodys)
    }

    /// Decrypts what there is, and shows it to `keep`, which must run no Python code. `None` if the engine is in use.
    #[inline]
    fn decrypt<R>(&self, py: Python<'_>, input: &[u8], keep: impl FnOnce(&[u8]) -> R) -> Option<(R, End)> {
        let mut plain = buffers::take_plain(py);
        let decrypted = self.decrypt_into(py, input, &mut plain);
        let kept = decrypted.map(|(count, end)| (keep(&plain[..count]), end));
        buffers::give_plain(py, plain);
        kept
    }

    /// As [`decrypt`](Self::decrypt), to a `bytes`. What is large is not copied into it, but decrypted there.
    #[inline]
    fn decrypt_to_bytes<'py>(&self, py: Python<'py>, input: &[u8]) -> Option<(PyResult<Bound<'py, PyBytes>>, End)> {
        if input.len() >= LARGE {
            match self.prepared(py, |engine| engine.read_bytes(py, input, usize::MAX))? {
                Ok(Some(Ok((decrypted, end)))) => return Some((Ok(decrypted.data), end)),
                Ok(None) => {}
                Ok(Some(Err(error))) | Err(error) => return Some((Err(error), End::Again)),
            }
        }
        self.decrypt(py, input, |data| bytes::copy(py, data))
    }

    /// As [`decrypt_to_bytes`](Self::decrypt_to_bytes), `count` bytes and the rest; by the library's functions, or not
    /// at all.
    pub(super) fn decrypt_some<'py>(
        &self,
        py: Python<'py>,
        input: &[u8],
        count: usize,
    ) -> Option<PyResult<(Decrypted<'py>, End)>> {
        match self.prepared(py, |engine| engine.read_bytes(py, input, count))? {
            Ok(read) => read,
            Err(error) => Some(Err(error)),
        }
    }

    #[inline]
    fn decrypt_into(&self, py: Python<'_>, input: &[u8], plain: &mut [u8]) -> Option<(usize, End)> {
        let read = self.prepared(py, |engine| engine.read(py, input, plain))?;
        Some(read.unwrap_or_else(|error| (0, End::Failed(error))))
    }

    /// Runs `f` with the engine, when that has what was received before and a buffer for what is to be sent.
    #[inline]
    fn prepared<R>(&self, py: Python<'_>, f: impl FnOnce(&mut Engine) -> R) -> Option<PyResult<R>> {
        self.with_engine(py, |engine| {
            let inbox = self.inbox.take(py);
            if !inbox.is_empty() {
                buffers::give(py, engine.feed(py, inbox)?);
            }
            buffers::give(py, engine.lend_output(buffers::take(py)));
            let read = f(engine);
            buffers::give(py, engine.take_spent());
            Ok(read)
        })
    }

    fn decrypt_into_buffer<'py>(
        &self,
        py: Python<'py>,
        input: &[u8],
        get_buffer: &Bound<'py, PyAny>,
        buffer_updated: &Bound<'py, PyAny>,
    ) -> PyResult<Option<End>> {
        let hint = self.unread(py)? + input.len();
        let buffer = call1(get_buffer, hint.into_pyobject(py)?.as_any())?;
        let room = buffer.len()?;
        if room == 0 {
            return Err(PyRuntimeError::new_err("get_buffer() returned an empty buffer"));
        }
        let decrypted = with_memory(&buffer, |memory| match memory.len() {
            // Its length is what an object says of itself.
            0 => Some(Err(PyRuntimeError::new_err("get_buffer() returned an empty buffer"))),
            _ => self.prepared(py, |engine| engine.read_memory(py, input, memory)),
        })?;
        let decrypted = match decrypted.transpose()? {
            Some(Some(decrypted)) => Some(Ok(decrypted)),
            Some(None) => self.decrypt_and_copy(py, input, &buffer, room),
            None => None,
        };
        let Some((count, end)) = decrypted.transpose()? else { return Ok(None) };
        if count > 0 {
            call1(buffer_updated, count.into_pyobject(py)?.as_any())?;
        }
        Ok(Some(end))
    }

    fn decrypt_and_copy(
        &self,
        py: Python<'_>,
        input: &[u8],
        buffer: &Bound<'_, PyAny>,
        room: usize,
    ) -> Option<PyResult<(usize, End)>> {
        let mut plain = buffers::take_plain(py);
        let limit = room.min(plain.len());
        let decrypted = self.decrypt_into(py, input, &mut plain[..limit]);
        let copied = decrypted.map(|(count, end)| {
            let copied = with_bytes_mut(buffer, |bytes| match bytes.get_mut(..count) {
                Some(bytes) => {
                    bytes.copy_from_slice(&plain[..count]);
                    Ok(())
                }
                None => Err(PyRuntimeError::new_err("the buffer of get_buffer() has shrunk")),
            });
            copied.flatten().map(|()| (count, end))
        });
        buffers::give_plain(py, plain);
        copied
    }

    /// How many bytes were received and not decrypted.
    pub(super) fn unread(&self, py: Python<'_>) -> PyResult<usize> {
        let waiting = self.inbox.with(py, |inbox| inbox.len());
        match self.engine.try_use(py) {
            Some(mut engine) => Ok(waiting + engine.unread(py)?),
            None => Ok(waiting),
        }
    }

    /// Pauses the transport below if there is too much that the protocol does not want, and has it go on later.
    pub(super) fn control_lower_reading(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let own = this.get();
        let flags = own.flags.get(py);
        if !flags.reading_paused && !flags.lower_reading_paused {
            // All that there was has been handed over.
            return Ok(());
        }
        let (high, low) = own.read_marks.get(py);
        let unread = own.unread(py)?;
        let Some(lower) = own.lower(py) else { return Ok(()) };
        if unread >= high && !flags.lower_reading_paused {
            own.change(py, |flags| flags.lower_reading_paused = true);
            lower.pause_reading(py)
        } else if unread <= low && flags.lower_reading_paused {
            own.change(py, |flags| flags.lower_reading_paused = false);
            lower.resume_reading(py)
        } else {
            Ok(())
        }
    }

    /// Tells the protocol that the peer sends no more, once.
    pub(super) fn tell_end(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let own = this.get();
        let flags = own.flags.get(py);
        if !flags.made || flags.eof_told || flags.lost_told {
            return Ok(());
        }
        own.change(py, |flags| flags.eof_told = true);
        let answer = own.upper.call0(intern!(py, "eof_received")).and_then(|answer| match answer {
            Some(answer) => answer.is_truthy(),
            None => Ok(false),
        });
        match answer {
            Ok(true) => {
                let text = "returning true from eof_received() has no effect when using ssl";
                asyncio::logger(py)?.call_method1(intern!(py, "warning"), (text,)).map(drop)
            }
            Ok(false) => Ok(()),
            Err(error) => Self::fatal_error(this, error, "Error calling eof_received()"),
        }
    }
}
