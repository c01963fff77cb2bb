//! The file of a Unix socket.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::{fs, io};

use pyo3::prelude::*;

use crate::asyncio;
use crate::os_error::os_error;

/// The file that a listening Unix socket has made, and that outlives it.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: Vec<u8>,
    /// Tells it apart from that of another server which has taken the path over.
    inode: u64,
}

impl SocketFile {
    /// The file at `path`; `None` if there is none, or none that could be known again.
    pub(crate) fn at(path: Vec<u8>) -> Option<Self> {
        let inode = fs::metadata(OsStr::from_bytes(&path)).ok()?.ino();
        Some(Self { path, inode })
    }

    /// Removes the file, if it is still the same. That it cannot be done is only logged.
    pub(super) fn remove(&self, py: Python<'_>) -> PyResult<()> {
        let path = Path::new(OsStr::from_bytes(&self.path));
        let removed = fs::metadata(path)
            .and_then(|metadata| if metadata.ino() == self.inode { fs::remove_file(path) } else { Ok(()) });
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let error = os_error(py, &error).into_value(py);
                let text = "Unable to clean up listening UNIX socket %r: %r";
                asyncio::logger(py)?.call_method1("error", (text, path.as_os_str(), error)).map(drop)
            }
            _ => Ok(()),
        }
    }
}
