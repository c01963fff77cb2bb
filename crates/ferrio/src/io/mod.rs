//! Sockets, pipes and whatever else has readiness, for tasks.
//!
//! | file | noun |
//! |---|---|
//! | this one | [`Async`]: calls that would block wait for the descriptor instead |
//! | [`watch`] | who waits for a descriptor, and until when |
//! | `tcp`, `udp`, `unix` | how the sockets of the standard library are made, and what they are used for most |

mod tcp;
mod udp;
mod unix;
mod watch;

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};
use watch::Watch;

use crate::engine::Direction;
use crate::net::{pipe, socket};
use crate::yield_now::yield_now;

/// Something with a descriptor, whose calls wait instead of blocking.
///
/// It takes any type of the standard library or elsewhere that has a descriptor with readiness: sockets, pipes of a
/// child process, an `eventfd`, a terminal. (Files have none: the system answers `EPERM` to who waits for one.
/// Read them in [`unblock`](crate::unblock()).) The usual ones are made by [`connect`](Async::connect) and `bind`.
///
/// *To read and write* it has [`AsyncRead`] and [`AsyncWrite`] where its type has [`Read`] and [`Write`]: with an
/// extension trait of `futures-lite` or `futures`, and for all that is written for these, such as TLS. As with
/// `TcpStream` itself a shared reference suffices, so one task can read while another writes. These traits have
/// one place for who waits in each direction; of two tasks that read by them from one `Async` only the latter is woken.
/// Every other call takes any number of tasks.
///
/// *Any other call* goes by [`read_with`](Self::read_with) and [`write_with`](Self::write_with).
///
/// The descriptor is watched by the loop that runs when something first waits for it, and belongs to one `Async` alone:
/// of two with the same number, the kernel knows one. Who makes many calls that never have to wait is made to let
/// others run now and then.
///
/// # Examples
///
/// ```
/// use std::net::{Ipv4Addr, TcpListener, TcpStream};
/// use ferrio::Async;
/// use futures_lite::{AsyncReadExt, AsyncWriteExt};
///
/// # fn main() -> std::io::Result<()> {
/// ferrio::run(async {
///     let listener = Async::<TcpListener>::bind((Ipv4Addr::LOCALHOST, 0))?;
///     let address = listener.get_ref().local_addr()?;
///     let server = ferrio::spawn(async move {
///         let (mut connection, _peer) = listener.accept().await?;
///         connection.write_all(b"hello").await
///     });
///
///     let mut connection = Async::<TcpStream>::connect(address).await?;
///     let mut received = String::new();
///     connection.read_to_string(&mut received).await?;
///     assert_eq!(received, "hello");
///     server.await?
/// })?
/// # }
/// ```
pub struct Async<T: AsFd> {
    // Before the descriptor, which is closed when nothing watches it any more.
    watch: Watch,
    io: T,
}

impl<T: AsFd> Async<T> {
    /// Makes the descriptor of `io` non-blocking, which it stays for all who share what it refers to.
    ///
    /// # Errors
    ///
    /// What `ioctl` reports.
    pub fn new(io: T) -> io::Result<Self> {
        pipe::set_nonblocking(io.as_fd())?;
        Ok(Self { watch: Watch::default(), io })
    }

    /// What it was made of, for calls that do not block.
    pub fn get_ref(&self) -> &T {
        &self.io
    }

    /// What it was made of, which is still non-blocking.
    pub fn into_inner(self) -> T {
        self.io
    }

    fn number(&self) -> RawFd {
        self.io.as_fd().as_raw_fd()
    }

    /// Waits until a read would not block: there is something, an end, or an error.
    ///
    /// By the time that the caller reads, somebody else may have read it.
    ///
    /// # Errors
    ///
    /// `EPERM` if the descriptor has no readiness, `ENOSPC`, `ENOMEM`; `NotConnected` if the loop is closed.
    ///
    /// # Panics
    ///
    /// If no loop runs on this thread.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn readable(&self) -> io::Result<()> {
        self.watch.ready(self.number(), Direction::Read).await
    }

    /// Waits until a write would not block: there is room, or an error.
    ///
    /// # Errors
    ///
    /// As for [`readable`](Self::readable).
    ///
    /// # Panics
    ///
    /// If no loop runs on this thread.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn writable(&self) -> io::Result<()> {
        self.watch.ready(self.number(), Direction::Write).await
    }

    /// Calls `read` until it answers something else than [`WouldBlock`](io::ErrorKind::WouldBlock), each time that
    /// there is something new to read. An interrupted call is made again.
    ///
    /// `read` is to answer so only if the system did: it is not called again before something has changed.
    ///
    /// # Errors
    ///
    /// What `read` reports; and as for [`readable`](Self::readable).
    ///
    /// # Panics
    ///
    /// If it has to wait, and no loop runs on this thread.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing: what `read` has taken is returned in the same poll.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::net::{Ipv4Addr, UdpSocket};
    /// use ferrio::Async;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// ferrio::run(async {
    ///     let socket = Async::<UdpSocket>::bind((Ipv4Addr::LOCALHOST, 0))?;
    ///     socket.send_to(b"hello", socket.get_ref().local_addr()?).await?;
    ///     let mut buffer = [0; 16];
    ///     let (length, _sender) = socket.read_with(|socket| socket.peek_from(&mut buffer)).await?;
    ///     assert_eq!(&buffer[..length], b"hello");
    ///     Ok(())
    /// })?
    /// # }
    /// ```
    pub async fn read_with<R>(&self, read: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        self.call_with(Direction::Read, read).await
    }

    /// As [`read_with`](Self::read_with), for a call that waits for room to write.
    ///
    /// The system tells nobody of room in a Unix datagram socket that is not connected: such a socket is to be
    /// connected before it sends more than its receiver takes.
    ///
    /// # Errors
    ///
    /// What `write` reports; and as for [`readable`](Self::readable).
    ///
    /// # Panics
    ///
    /// If it has to wait, and no loop runs on this thread.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing: what `write` has sent is told in the same poll.
    pub async fn write_with<R>(&self, write: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        self.call_with(Direction::Write, write).await
    }

    async fn call_with<R>(&self, direction: Direction, mut call: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        if !self.watch.may_call() {
            yield_now().await;
        }
        loop {
            match call(&self.io) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => return result,
            }
            self.watch.change(self.number(), direction).await?;
        }
    }
}

impl<T: AsFd> AsFd for Async<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.as_fd()
    }
}

impl<T: AsFd + fmt::Debug> fmt::Debug for Async<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Async").field(&self.io).finish()
    }
}

// What it is made of is never pinned.
impl<T: AsFd> Unpin for Async<T> {}

impl<T: AsFd + Read> AsyncRead for Async<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let (fd, Self { watch, io }) = (self.number(), &mut *self);
        watch.poll_call(fd, Direction::Read, cx, || io.read(buffer))
    }

    fn poll_read_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        let (fd, Self { watch, io }) = (self.number(), &mut *self);
        watch.poll_call(fd, Direction::Read, cx, || io.read_vectored(buffers))
    }
}

impl<T: AsFd> AsyncRead for &Async<T>
where
    for<'a> &'a T: Read,
{
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.watch.poll_call(self.number(), Direction::Read, cx, || (&self.io).read(buffer))
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        self.watch.poll_call(self.number(), Direction::Read, cx, || (&self.io).read_vectored(buffers))
    }
}

/// To close it ends the sending side of a socket. The end of a pipe ends when the `Async` is dropped.
impl<T: AsFd + Write> AsyncWrite for Async<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let (fd, Self { watch, io }) = (self.number(), &mut *self);
        watch.poll_call(fd, Direction::Write, cx, || io.write(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let (fd, Self { watch, io }) = (self.number(), &mut *self);
        watch.poll_call(fd, Direction::Write, cx, || io.write_vectored(slices))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (fd, Self { watch, io }) = (self.number(), &mut *self);
        watch.poll_call(fd, Direction::Write, cx, || io.flush())
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.as_mut().poll_flush(cx).map(|flushed| flushed.and_then(|()| end_sending(self.as_fd())))
    }
}

/// As that of [`Async`] itself.
impl<T: AsFd> AsyncWrite for &Async<T>
where
    for<'a> &'a T: Write,
{
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.watch.poll_call(self.number(), Direction::Write, cx, || (&self.io).write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.watch.poll_call(self.number(), Direction::Write, cx, || (&self.io).write_vectored(slices))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watch.poll_call(self.number(), Direction::Write, cx, || (&self.io).flush())
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.as_mut().poll_flush(cx).map(|flushed| flushed.and_then(|()| end_sending(self.as_fd())))
    }
}

/// Ends the sending side, if there is one that can be ended and has not been.
fn end_sending(fd: BorrowedFd<'_>) -> io::Result<()> {
    match socket::shutdown_write(fd) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTSOCK | libc::ENOTCONN)) => Ok(()),
        result => result,
    }
}
