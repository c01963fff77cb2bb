//! Unix sockets.

use std::io;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;

use super::Async;
use crate::net::socket;
use crate::unblock::unblock;

impl Async<UnixListener> {
    /// Listens at `path`, where there must be nothing yet. The file stays when the listener is gone.
    ///
    /// # Errors
    ///
    /// What `bind` reports, `EADDRINUSE` for one.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::new(UnixListener::bind(path)?)
    }

    /// Waits for a connection.
    ///
    /// # Errors
    ///
    /// What `accept` reports. `EMFILE` and its like pass when connections are closed: wait a little, and go on.
    ///
    /// # Panics
    ///
    /// If it has to wait, and no loop runs on this thread.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses no connection.
    pub async fn accept(&self) -> io::Result<(Async<UnixStream>, SocketAddr)> {
        let (stream, peer) = self.read_with(UnixListener::accept).await?;
        Ok((Async::new(stream)?, peer))
    }
}

impl Async<UnixStream> {
    /// Connects to who listens at `path`.
    ///
    /// # Errors
    ///
    /// What `connect` reports, `ENOENT` and `ECONNREFUSED` for two.
    ///
    /// # Panics
    ///
    /// If the listener's queue is full, and no loop runs on this thread.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends the attempt; but if the listener's queue is full, a thread waits for it to have room.
    pub async fn connect(path: impl AsRef<Path>) -> io::Result<Self> {
        if let Some(stream) = socket::connect_unix(path.as_ref())? {
            return Self::new(stream.into());
        }
        // The listener's queue is full, and that there is room again cannot be waited for but by this.
        let path = path.as_ref().to_owned();
        Self::new(unblock(move || UnixStream::connect(path)).await?)
    }

    /// Makes two that are connected.
    ///
    /// # Errors
    ///
    /// What `socketpair` reports, `EMFILE` for one.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = UnixStream::pair()?;
        Ok((Self::new(one)?, Self::new(other)?))
    }
}
