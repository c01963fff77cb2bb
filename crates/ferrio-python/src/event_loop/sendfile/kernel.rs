//! A file that the kernel sends.

use std::io;
use std::os::fd::RawFd;

use ferrio::engine::Direction;
use ferrio::net::{Transfer, socket};
use pyo3::exceptions::{PyAttributeError, PyConnectionError, PyOSError};
use pyo3::intern;
use pyo3::prelude::*;

use super::{Part, not_available};
use crate::asyncio;
use crate::coroutine::await_;
use crate::event_loop::sock::Socket;
use crate::ffi::call::method0;
use crate::ffi::descriptor::borrow;
use crate::ffi::raise::settled;
use crate::os_error::{os_error, os_error_of};
use crate::transports::SendingFile;

/// The most that one call of `sendfile(2)` sends, in bytes.
const PORTION: usize = 1 << 20;

/// Who gets it.
pub(super) enum To<'a> {
    Socket(&'a Socket),
    Transport(&'a SendingFile),
}

impl To<'_> {
    fn descriptor(&self, py: Python<'_>) -> PyResult<RawFd> {
        match self {
            Self::Socket(socket) => method0(socket.object.bind(py), intern!(py, "fileno"))?.extract(),
            Self::Transport(sending) => sending.descriptor(py),
        }
    }

    pub(super) async fn room(&self) -> PyResult<()> {
        match self {
            Self::Socket(socket) => socket.ready(Direction::Write).await,
            Self::Transport(sending) => await_(Python::attach(|py| sending.room(py))?.into_any()).await.map(drop),
        }
    }
}

/// How far the kernel has come.
pub(super) struct Sending {
    file: Py<PyAny>,
    number: RawFd,
    offset: u64,
    left: Option<u64>,
    pub(super) sent: u64,
    pub(super) has_waited: bool,
}

impl Sending {
    /// `None` if the file is empty.
    ///
    /// # Errors
    ///
    /// `SendfileNotAvailableError` for what has no descriptor.
    pub(super) fn new(py: Python<'_>, part: &Part) -> PyResult<Option<Self>> {
        let file = part.file.bind(py);
        let number: RawFd = match file.call_method0(intern!(py, "fileno")) {
            Ok(number) => number.extract()?,
            Err(error)
                if error.is_instance_of::<PyAttributeError>(py)
                    || error.is_instance(py, &asyncio::module(py, "io")?.getattr("UnsupportedOperation")?) =>
            {
                return Err(not_available(py, "not a regular file"));
            }
            Err(error) => return Err(error),
        };
        let size = match asyncio::module(py, "os")?.call_method1(intern!(py, "fstat"), (number,)) {
            Ok(stat) => stat.getattr(intern!(py, "st_size"))?,
            Err(error) if error.is_instance_of::<PyOSError>(py) => return Err(not_available(py, "not a regular file")),
            Err(error) => return Err(error),
        };
        let left = match &part.count {
            // What is more than can be counted is more than there is.
            Some(count) => Some(count.extract(py).unwrap_or(u64::MAX)),
            None if size.is_truthy()? => None,
            None => return Ok(None),
        };
        // The kernel's own offsets are signed.
        let offset: i64 = part.offset.extract(py)?;
        let offset = u64::try_from(offset).map_err(|_| PyOSError::new_err("negative offset"))?;
        Ok(Some(Self { file: file.clone().unbind(), number, offset, left, sent: 0, has_waited: false }))
    }

    /// Sends a portion; true if that was all.
    pub(super) fn attempt(&mut self, py: Python<'_>, to: &To<'_>) -> PyResult<bool> {
        let count = self.left.map_or(PORTION, |left| usize::try_from(left).map_or(PORTION, |left| left.min(PORTION)));
        if count == 0 {
            return Ok(true);
        }
        let fd = to.descriptor(py)?;
        self.check_file(py)?;
        if fd < 0 {
            return Err(self.failed(py, &io::Error::from_raw_os_error(libc::EBADF)));
        }
        let (file, offset) = (self.number, self.offset);
        // The disk may be slow.
        match py.detach(|| socket::send_file(borrow(fd), borrow(file), offset, count)) {
            Ok(Transfer::Done(0)) => Ok(true),
            Ok(Transfer::Done(sent)) => {
                let sent = sent as u64;
                self.sent += sent;
                self.offset += sent;
                self.left = self.left.map(|left| left.saturating_sub(sent));
                Ok(self.left == Some(0))
            }
            Ok(Transfer::WouldBlock) => Ok(false),
            Err(error) => Err(self.failed(py, &error)),
        }
    }

    /// # Errors
    ///
    /// What the file says if it has been closed; `OSError` if it is another one by now.
    fn check_file(&self, py: Python<'_>) -> PyResult<()> {
        let number: RawFd = self.file.bind(py).call_method0(intern!(py, "fileno"))?.extract()?;
        if number == self.number { Ok(()) } else { Err(os_error_of(py, libc::EBADF)) }
    }

    fn failed(&self, py: Python<'_>, error: &io::Error) -> PyErr {
        if self.sent == 0 {
            // It may be the file, and reading may help; if it is the connection, that will find out.
            return not_available(py, "os.sendfile call failed");
        }
        let exception = os_error(py, error);
        if !self.has_waited || error.raw_os_error() != Some(libc::ENOTCONN) {
            return exception;
        }
        let lost = settled(py, PyConnectionError::new_err(("socket is not connected", libc::ENOTCONN)));
        lost.set_cause(py, Some(exception));
        lost
    }

    /// Has the file go on behind what was sent.
    pub(super) fn set_position(&self, py: Python<'_>) -> PyResult<()> {
        // A file that was closed meanwhile has no position, and its number may be another's.
        if self.check_file(py).is_err() {
            return Ok(());
        }
        asyncio::module(py, "os")?.call_method1(intern!(py, "lseek"), (self.number, self.offset, 0)).map(drop)
    }
}
