//! TCP.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};

use super::Async;
use crate::net::socket;
use crate::unblock::unblock;

impl Async<TcpListener> {
    /// Listens at `address`; at a port of the system's choice if that is 0.
    ///
    /// # Errors
    ///
    /// What `bind` reports, `EADDRINUSE` for one.
    pub fn bind(address: impl Into<SocketAddr>) -> io::Result<Self> {
        Self::new(TcpListener::bind(address.into())?)
    }

    /// Waits for a connection.
    ///
    /// # Errors
    ///
    /// What `accept` reports. `EMFILE` and its like pass when connections are closed: wait a little, and go on.
    /// `ECONNABORTED` is the end of one connection and not the listener's.
    ///
    /// # Panics
    ///
    /// If it has to wait, and no loop runs on this thread.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses no connection.
    pub async fn accept(&self) -> io::Result<(Async<TcpStream>, SocketAddr)> {
        let (stream, peer) = self.read_with(TcpListener::accept).await?;
        Ok((Async::new(stream)?, peer))
    }
}

impl Async<TcpStream> {
    /// Connects to `address`.
    ///
    /// # Errors
    ///
    /// What the system reports, `ECONNREFUSED` for one. It gives up after some minutes; who has no such patience uses
    /// [`timeout`](crate::timeout()).
    ///
    /// # Panics
    ///
    /// If no loop runs on this thread.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends the attempt.
    pub async fn connect(address: impl Into<SocketAddr>) -> io::Result<Self> {
        let stream = Self { io: socket::connect(&address.into())?.into(), watch: Default::default() };
        stream
            .write_with(|stream| match (stream.take_error()?, stream.peer_addr()) {
                (Some(error), _) => Err(error),
                // Not yet.
                (None, Err(error)) if error.kind() == io::ErrorKind::NotConnected => {
                    Err(io::ErrorKind::WouldBlock.into())
                }
                (None, result) => result,
            })
            .await?;
        Ok(stream)
    }

    /// Connects to a host by its name: to the first of its addresses that answers, in the order in which the system
    /// has them. They are looked up in a thread.
    ///
    /// # Errors
    ///
    /// What the look-up reports, or the last attempt.
    ///
    /// # Panics
    ///
    /// If no loop runs on this thread.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends the attempt. A look-up runs to its end, in its thread.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::{net::TcpStream, time::Duration};
    /// use ferrio::{Async, timeout};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// ferrio::run(async {
    ///     let connecting = Async::<TcpStream>::connect_host("example.org", 80);
    ///     let stream = timeout(Duration::from_secs(5), connecting).await??;
    ///     println!("{}", stream.get_ref().peer_addr()?);
    ///     Ok(())
    /// })?
    /// # }
    /// ```
    pub async fn connect_host(host: &str, port: u16) -> io::Result<Self> {
        let host = (host.to_owned(), port);
        let addresses: Vec<_> = unblock(move || host.to_socket_addrs()).await?.collect();
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in addresses {
            match Self::connect(address).await {
                Err(error) => last = error,
                connected => return connected,
            }
        }
        Err(last)
    }
}
