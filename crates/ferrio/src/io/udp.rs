//! UDP.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use super::Async;

impl Async<UdpSocket> {
    /// Makes a socket with `address`; with a port of the system's choice if that is 0. With
    /// [`UdpSocket::connect`], which does not block, it gets a peer for [`send`](Self::send) and [`recv`](Self::recv).
    ///
    /// # Errors
    ///
    /// What `bind` reports, `EADDRINUSE` for one.
    pub fn bind(address: impl Into<SocketAddr>) -> io::Result<Self> {
        Self::new(UdpSocket::bind(address.into())?)
    }

    /// Waits for a datagram, and returns its length and where it comes from. What `buffer` has no room for is lost.
    ///
    /// # Errors
    ///
    /// What `recvfrom` reports, `ECONNREFUSED` for one, of a datagram that was sent earlier.
    ///
    /// # Panics
    ///
    /// If it has to wait, and no loop runs on this thread.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses no datagram.
    pub async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.read_with(|socket| socket.recv_from(buffer)).await
    }

    /// Sends `bytes` as one datagram to `address`.
    ///
    /// # Errors
    ///
    /// What `sendto` reports, `EMSGSIZE` for one.
    ///
    /// # Panics
    ///
    /// If it has to wait, and no loop runs on this thread.
    ///
    /// # Cancel safety
    ///
    /// Dropping it, nothing was sent.
    pub async fn send_to(&self, bytes: &[u8], address: impl Into<SocketAddr>) -> io::Result<usize> {
        let address = address.into();
        self.write_with(|socket| socket.send_to(bytes, address)).await
    }

    /// As [`recv_from`](Self::recv_from), from the peer that the socket is connected to.
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Panics
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_with(|socket| socket.recv(buffer)).await
    }

    /// As [`send_to`](Self::send_to), to the peer that the socket is connected to.
    ///
    /// # Errors
    ///
    /// As there; `EDESTADDRREQ` if it is not connected.
    ///
    /// # Panics
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.write_with(|socket| socket.send(bytes)).await
    }
}
