//! What the protocol writes, to the transport below, and flow control.
//!
//! What is written is encrypted at once and given to the transport below, until that tells to pause. From then on it
//! waits as it was given: ciphertext would be a copy. The marks count both, what waits here and what waits below. So
//! that the transport below tells in time when it has room, its own marks are never above those of the connection.

use std::collections::VecDeque;

use ferrio::stream::FlowControl;
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView, PyString};

use super::engine::Progress;
use super::new::write_limits;
use super::{Phase, TlsTransport, buffers};
use crate::asyncio;
use crate::ffi::buffer::has_bytes;
use crate::transports::chunk::Chunk;

/// How much is encrypted before the transport below is asked whether it has had enough, in bytes.
const PORTION: usize = 128 * 1024;

/// What a record holds, in bytes. Smaller pieces that wait share one.
const RECORD: usize = 16 * 1024;

/// The marks of the transport below, in bytes, unless those of the connection are lower.
const LOWER_MARKS: (usize, usize) = (64 * 1024, 16 * 1024);

/// After so many writes to a closed connection the log is told, as asyncio's constant of a longer name says.
const WRITES_BEFORE_WARNING: u32 = 5;

/// What waits to be encrypted.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// The first of them possibly written in part.
    chunks: VecDeque<Chunk>,
    written: usize,
    size: usize,
    pub(super) flow: FlowControl,
}

impl Output {
    fn push(&mut self, chunk: Chunk) {
        let length = chunk.as_ref().len();
        if length > 0 {
            self.size += length;
            self.chunks.push_back(chunk);
        }
    }

    /// As `push`, with the first `written` bytes of the chunk written already.
    fn push_rest(&mut self, chunk: Chunk, written: usize) {
        if written == 0 || !self.chunks.is_empty() {
            self.push(if written == 0 { chunk } else { Chunk::Copied(chunk.as_ref()[written..].into()) });
        } else {
            self.push(chunk);
            self.written = written;
            self.size -= written;
        }
    }

    /// The first chunk and how much of it is written, taken out; or several small ones, joined.
    fn next(&mut self, py: Python<'_>) -> Option<Portion> {
        let first = self.chunks.front()?.as_ref().len() - self.written;
        let second = self.chunks.get(1).map(|chunk| chunk.as_ref().len());
        if second.is_none_or(|second| first + second > RECORD) {
            let written = std::mem::take(&mut self.written);
            return self.chunks.pop_front().map(|chunk| Portion::One(chunk, written));
        }
        let mut joined = buffers::take(py);
        let mut start = self.written;
        for chunk in &self.chunks {
            let bytes = &chunk.as_ref()[start..];
            if joined.len() + bytes.len() > RECORD {
                break;
            }
            joined.extend_from_slice(bytes);
            start = 0;
        }
        Some(Portion::Joined(joined))
    }

    /// Takes note of what is written of what [`next`](Self::next) has given, and puts back the rest.
    fn wrote(&mut self, portion: &mut Option<Portion>, count: usize) {
        // A callback of the context's may have ended the connection meanwhile, and with it all that waits.
        self.size = self.size.saturating_sub(count);
        match portion.take() {
            Some(Portion::One(chunk, written)) if written + count < chunk.as_ref().len() => {
                self.written = written + count;
                self.chunks.push_front(chunk);
            }
            Some(joined @ Portion::Joined(_)) => {
                let mut rest = count + self.written;
                while let Some(length) = self.chunks.front().map(|chunk| chunk.as_ref().len())
                    && rest >= length
                {
                    rest -= length;
                    self.chunks.pop_front();
                }
                self.written = if self.chunks.is_empty() { 0 } else { rest };
                *portion = Some(joined);
            }
            Some(Portion::One(..)) | None => {}
        }
    }

    pub(super) fn clear(&mut self) -> VecDeque<Chunk> {
        (self.written, self.size) = (0, 0);
        std::mem::take(&mut self.chunks)
    }
}

/// What is encrypted next.
enum Portion {
    /// A chunk, and how much of it is written already.
    One(Chunk, usize),
    Joined(Vec<u8>),
}

impl TlsTransport {
    #[inline]
    pub(super) fn write(this: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = this.py();
        let own = this.get();
        if let Ok(bytes) = data.cast_exact::<PyBytes>()
            && !bytes.as_bytes().is_empty()
            && own.can_write_now(py)
        {
            let bytes = bytes.as_bytes();
            return match Self::write_now(this, bytes) {
                Ok(written) if written == bytes.len() => Self::wrote(this),
                Ok(written) => {
                    let (chunk, written) = Chunk::from_rest(data, written)?;
                    own.output.with(py, |output| output.push_rest(chunk, written));
                    Self::wrote(this)
                }
                Err(error) => Self::fatal_error(this, error, "Fatal error on SSL protocol"),
            };
        }
        let is_sendable = data.is_instance_of::<PyBytes>()
            || data.is_instance_of::<PyByteArray>()
            || data.is_instance_of::<PyMemoryView>();
        if !is_sendable {
            let class = data.get_type().name()?;
            return Err(PyTypeError::new_err(format!("data: expecting a bytes-like instance, got {class}")));
        }
        if !data.is_truthy()? || !own.check_write(py)? {
            return Ok(());
        }
        own.keep(data)?;
        Self::write_kept(this)
    }

    /// Puts `data` behind what waits.
    pub(super) fn keep(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let (chunk, _) = Chunk::from_rest(data, 0)?;
        self.output.with(data.py(), |output| output.push(chunk));
        Ok(())
    }

    /// As `write`, for a TLS connection above this one.
    pub(super) fn write_slice(this: &Bound<'_, Self>, data: &[u8]) -> PyResult<()> {
        let py = this.py();
        let own = this.get();
        if data.is_empty() || !own.check_write(py)? {
            return Ok(());
        }
        let written = match own.can_write_now(py) {
            true => match Self::write_now(this, data) {
                Ok(written) => written,
                Err(error) => return Self::fatal_error(this, error, "Fatal error on SSL protocol"),
            },
            false => 0,
        };
        own.output.with(py, |output| output.push(Chunk::Copied(data[written..].into())));
        Self::wrote(this)
    }

    pub(super) fn write_all(this: &Bound<'_, Self>, list_of_data: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = this.py();
        let own = this.get();
        if !own.check_write(py)? {
            return Ok(());
        }
        // All or nothing: a wrong object is found before anything is sent.
        let mut chunks = Vec::new();
        for data in list_of_data.try_iter()? {
            let data = data?;
            if !has_bytes(&data) {
                let class = data.get_type().name()?;
                return Err(PyTypeError::new_err(format!("data: expecting a bytes-like instance, got {class}")));
            }
            chunks.push(Chunk::from_rest(&data, 0)?.0);
        }
        // Iterating may have run anything.
        if !matches!(own.phase.get(py), Phase::Wrapped | Phase::Handshake) {
            return Ok(());
        }
        own.output.with(py, |output| chunks.into_iter().for_each(|chunk| output.push(chunk)));
        Self::write_kept(this)
    }

    /// Whether there is somebody to write to.
    #[inline]
    fn check_write(&self, py: Python<'_>) -> PyResult<bool> {
        if matches!(self.phase.get(py), Phase::Wrapped | Phase::Handshake) {
            return Ok(true);
        }
        let late = self.late_writes.get(py);
        if late >= WRITES_BEFORE_WARNING {
            asyncio::logger(py)?.call_method1(intern!(py, "warning"), ("SSL connection is closed",))?;
        }
        self.late_writes.set(py, late.saturating_add(1));
        Ok(false)
    }

    #[inline]
    fn can_write_now(&self, py: Python<'_>) -> bool {
        self.phase.get(py) == Phase::Wrapped
            && !self.flags.get(py).lower_full
            && self.output.with(py, |output| output.chunks.is_empty())
    }

    /// Encrypts and sends as much of `data` as the transport below takes; returns how much that was.
    #[inline]
    fn write_now(this: &Bound<'_, Self>, data: &[u8]) -> PyResult<usize> {
        let py = this.py();
        let own = this.get();
        let mut written = 0;
        while written < data.len() && !own.flags.get(py).lower_full {
            let portion = &data[written..data.len().min(written + PORTION)];
            let result = own.with_engine(py, |engine| {
                buffers::give(py, engine.lend_output(buffers::take(py)));
                let result = engine.write(py, portion);
                result.and_then(|progress| Ok((progress, engine.take_output(py)?)))
            });
            let Some(result) = result else { break };
            let (progress, output) = result?;
            own.send(py, output)?;
            match progress {
                Progress::Done => written += portion.len(),
                Progress::Again => break,
            }
        }
        Ok(written)
    }

    fn write_kept(this: &Bound<'_, Self>) -> PyResult<()> {
        let written = match this.get().phase.get(this.py()) {
            Phase::Wrapped => Self::write_waiting(this, false),
            _ => Ok(()),
        };
        match written {
            Ok(()) => Self::wrote(this),
            Err(error) => Self::fatal_error(this, error, "Fatal error on SSL protocol"),
        }
    }

    /// Follows every write.
    #[inline]
    fn wrote(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let own = this.get();
        let pause = own.output.with(py, |output| (output.size, output.flow.limits().high()));
        if pause.0 > 0 || own.buffered(py) > pause.1 {
            Self::output_grew(this)?;
        }
        // A callback of the context's has found the engine in use.
        if own.flags.get(py).again { Self::advance(this) } else { Ok(()) }
    }

    /// Encrypts and sends what waits, and whatever else the library has to say. With `all` even if the transport below
    /// has told to pause.
    pub(super) fn write_waiting(this: &Bound<'_, Self>, all: bool) -> PyResult<()> {
        let py = this.py();
        let own = this.get();
        let mut pending = 0;
        loop {
            if own.flags.get(py).lower_full && !all {
                break;
            }
            let Some(portion) = own.output.with(py, |output| output.next(py)) else { break };
            let bytes = match &portion {
                Portion::One(chunk, written) => &chunk.as_ref()[*written..],
                Portion::Joined(bytes) => bytes,
            };
            let bytes = &bytes[..bytes.len().min(PORTION)];
            let length = bytes.len();
            let result = own.with_engine(py, |engine| {
                buffers::give(py, engine.lend_output(buffers::take(py)));
                engine.write(py, bytes)
            });
            let done = match &result {
                Some(Ok(Progress::Done)) => length,
                _ => 0,
            };
            let mut portion = Some(portion);
            own.output.with(py, |output| output.wrote(&mut portion, done));
            if let Some(Portion::Joined(joined)) = portion {
                buffers::give(py, joined);
            }
            if let Some(Err(error)) = result {
                return Err(error);
            }
            if done == 0 {
                break;
            }
            pending += done;
            if pending >= PORTION {
                pending = 0;
                Self::send_output(this)?;
            }
        }
        Self::send_output(this)?;
        Self::output_shrank(this)
    }

    /// Gives to the transport below what the library has to say.
    pub(super) fn send_output(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let own = this.get();
        match own.with_engine(py, |engine| engine.take_output(py)) {
            Some(output) => own.send(py, output?),
            None => Ok(()),
        }
    }

    #[inline]
    fn send(&self, py: Python<'_>, output: Vec<u8>) -> PyResult<()> {
        let sent = match self.lower(py) {
            Some(lower) if !output.is_empty() => lower.write(py, &output),
            _ => Ok(()),
        };
        buffers::give(py, output);
        sent
    }

    /// Whether nothing waits to be encrypted.
    pub(super) fn has_written_all(&self, py: Python<'_>) -> bool {
        self.output.with(py, |output| output.chunks.is_empty())
    }

    /// How many bytes wait, in both layers.
    pub(super) fn buffered(&self, py: Python<'_>) -> usize {
        let waiting = self.output.with(py, |output| output.size);
        waiting + self.lower.with(py, |lower| lower.as_ref().map_or(0, |lower| lower.buffered(py)))
    }

    pub(super) fn set_limits(this: &Bound<'_, Self>, high: Option<i64>, low: Option<i64>) -> PyResult<()> {
        let limits = write_limits(high, low)?;
        this.get().output.with(this.py(), |output| output.flow.set_limits(limits));
        this.get().limit_lower(this.py())?;
        Self::output_grew(this)
    }

    /// Sets the marks of the transport below, so that it tells in time for ours.
    pub(super) fn limit_lower(&self, py: Python<'_>) -> PyResult<()> {
        let limits = self.output.with(py, |output| output.flow.limits());
        match self.lower(py) {
            Some(lower) => lower.set_limits(py, limits.high().min(LOWER_MARKS.0), limits.low().min(LOWER_MARKS.1)),
            None => Ok(()),
        }
    }

    /// The transport below has much to send.
    pub(super) fn lower_filled(this: &Bound<'_, Self>) -> PyResult<()> {
        this.get().change(this.py(), |flags| flags.lower_full = true);
        Self::output_grew(this)
    }

    /// The transport below has room again.
    pub(super) fn lower_drained(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let own = this.get();
        own.change(py, |flags| flags.lower_full = false);
        match own.phase.get(py) {
            Phase::Wrapped => Self::write_waiting(this, false)
                .or_else(|error| Self::fatal_error(this, error, "Fatal error on SSL protocol")),
            Phase::Flushing => Self::advance(this),
            _ => Self::output_shrank(this),
        }
    }

    fn output_grew(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let size = this.get().buffered(py);
        let pause = this.get().output.with(py, |output| output.flow.grown(size));
        if pause { Self::tell_producer(this, intern!(py, "pause_writing")) } else { Ok(()) }
    }

    fn output_shrank(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        if !this.get().output.with(py, |output| output.flow.is_paused()) {
            return Ok(());
        }
        let size = this.get().buffered(py);
        let resume = this.get().output.with(py, |output| output.flow.shrunk(size));
        if resume { Self::tell_producer(this, intern!(py, "resume_writing")) } else { Ok(()) }
    }

    fn tell_producer(this: &Bound<'_, Self>, method: &Bound<'_, PyString>) -> PyResult<()> {
        let py = this.py();
        match this.get().upper.call0(method) {
            Ok(_) => Ok(()),
            Err(error) if asyncio::leaves_the_loop(py, &error) => Err(error),
            Err(error) => Self::report(this, &format!("protocol.{method}() failed"), &error),
        }
    }
}
