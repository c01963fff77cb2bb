//! A chat: what one sends, line by line, all others get. It ends with Ctrl-C, or `kill -TERM`.
//!
//!     cargo run -p ferrio --example chat -- 127.0.0.1:4000
//!     nc 127.0.0.1 4000

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use async_channel::{Receiver, Sender, bounded};
use ferrio::{Async, TaskGroup, sleep, task_group};
use futures_lite::{AsyncBufReadExt, AsyncWriteExt, StreamExt, future, io::BufReader};
use signal_hook::consts::{SIGINT, SIGTERM};

/// How many lines may wait for somebody who reads slowly. Who is further behind misses some.
const BACKLOG: usize = 100;

/// Who is there. All tasks are of one thread, so nothing has to be locked.
#[derive(Default)]
struct Room(RefCell<BTreeMap<SocketAddr, Sender<Rc<str>>>>);

impl Room {
    fn enter(&self, peer: SocketAddr) -> Receiver<Rc<str>> {
        let (sender, receiver) = bounded(BACKLOG);
        self.0.borrow_mut().insert(peer, sender);
        receiver
    }

    fn say(&self, from: SocketAddr, line: &str) {
        let line = Rc::from(format!("{from}: {line}\n"));
        for (_, sender) in self.0.borrow().iter().filter(|(peer, _)| **peer != from) {
            _ = sender.try_send(Rc::clone(&line));
        }
    }

    fn leave(&self, peer: SocketAddr) {
        self.0.borrow_mut().remove(&peer);
    }
}

/// Serves until `end` is done, and then sends nobody away without what was said before.
pub(crate) async fn serve(listener: Async<TcpListener>, end: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    task_group(async |group: &TaskGroup<io::Error>| {
        let room = Rc::new(Room::default());
        let accepting = group.spawn(accept(listener, group.clone(), Rc::clone(&room)));
        end.await?;
        accepting.abort();
        // Without a sender there are no more lines: each connection sends what waits, and ends.
        room.0.borrow_mut().clear();
        Ok(())
    })
    .await
}

async fn accept(listener: Async<TcpListener>, group: TaskGroup<io::Error>, room: Rc<Room>) -> io::Result<()> {
    loop {
        match listener.accept().await {
            Ok((connection, peer)) => {
                let room = Rc::clone(&room);
                group.spawn(async move {
                    let (lines, connection) = (room.enter(peer), &connection);
                    // Either end of the connection ends both.
                    let result = future::or(hear(connection, peer, &room), tell(connection, lines)).await;
                    room.leave(peer);
                    result.or_else(|error| {
                        eprintln!("{peer}: {error}");
                        Ok(())
                    })
                });
            }
            // No descriptor is left, or the peer was quicker. Neither is the end of the server.
            Err(error) => {
                eprintln!("accept: {error}");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn hear(connection: &Async<TcpStream>, peer: SocketAddr, room: &Room) -> io::Result<()> {
    let mut lines = BufReader::new(connection).lines();
    while let Some(line) = lines.next().await {
        room.say(peer, &line?);
    }
    Ok(())
}

async fn tell(mut connection: &Async<TcpStream>, lines: Receiver<Rc<str>>) -> io::Result<()> {
    while let Ok(line) = lines.recv().await {
        connection.write_all(line.as_bytes()).await?;
    }
    connection.close().await
}

/// Waits until somebody asks the process to end.
async fn asked_to_end() -> io::Result<()> {
    let (arrived, writer) = UnixStream::pair()?;
    for signal in [SIGINT, SIGTERM] {
        signal_hook::low_level::pipe::register(signal, writer.try_clone()?)?;
    }
    Async::new(arrived)?.readable().await
}

#[allow(dead_code, reason = "the test of this example brings its own")]
fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:4000".into());
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    ferrio::run(serve(Async::<TcpListener>::bind(address)?, asked_to_end()))?
}
