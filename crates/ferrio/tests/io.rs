//! `Async`: calls that wait for a descriptor.

#![allow(clippy::unwrap_used, reason = "helpers outside of a test function unwrap like the tests do")]

mod common;

use std::cell::Cell;
use std::fs::File;
use std::future::{Future, pending};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::pin::pin;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::thread;

use common::{Log, monotonic, secs, stepped};
use ferrio::engine::EventLoop;
use ferrio::{Async, Elapsed, run, run_on, sleep, spawn, timeout, unblock, yield_now};
use futures_lite::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, StreamExt, io::BufReader};

/// A loop that ends a test which hangs.
fn run_io<F: Future<Output = io::Result<()>>>(future: F) {
    match run(timeout(secs(20), future)).unwrap() {
        Ok(result) => result.unwrap(),
        Err(Elapsed) => panic!("the test hangs"),
    }
}

fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

async fn tcp_pair() -> io::Result<(Async<TcpStream>, Async<TcpStream>)> {
    let listener = Async::<TcpListener>::bind(any_port())?;
    let near = Async::<TcpStream>::connect(listener.get_ref().local_addr()?).await?;
    Ok((near, listener.accept().await?.0))
}

/// By a call that any number of tasks may make.
async fn read_byte(stream: &Async<UnixStream>) -> io::Result<u8> {
    let mut byte = [0];
    stream.read_with(|mut stream| stream.read_exact(&mut byte)).await.map(|()| byte[0])
}

/// What a future waits for is not there.
fn waits<F: Future>(future: std::pin::Pin<&mut F>) -> bool {
    future.poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

#[test]
fn lines_go_there_and_back() {
    run_io(async {
        let listener = Async::<TcpListener>::bind(any_port())?;
        let address = listener.get_ref().local_addr()?;
        let server = spawn(async move {
            let (connection, peer) = listener.accept().await?;
            assert_eq!(peer, connection.get_ref().peer_addr()?);
            let (mut lines, mut writer) = (BufReader::new(&connection).lines(), &connection);
            while let Some(line) = lines.next().await {
                writer.write_all(format!("{}\n", line?.to_uppercase()).as_bytes()).await?;
            }
            writer.close().await
        });
        let mut client = Async::<TcpStream>::connect(address).await?;
        client.write_all(b"one\ntwo\n").await?;
        client.close().await?;
        let mut answer = String::new();
        client.read_to_string(&mut answer).await?;
        assert_eq!(answer, "ONE\nTWO\n");
        server.await?
    });
}

/// More than any buffer holds, in both directions at once, by two tasks on one connection.
#[test]
fn much_goes_both_ways() {
    const SIZE: usize = 20 << 20;

    async fn exchange(stream: Rc<Async<TcpStream>>) -> io::Result<usize> {
        let sender = spawn({
            let stream = Rc::clone(&stream);
            async move {
                let mut writer = &*stream;
                for chunk in 0..SIZE / 65536 {
                    writer.write_all(&[chunk as u8; 65536]).await?;
                }
                writer.close().await
            }
        });
        let (mut reader, mut buffer, mut count) = (&*stream, vec![0; 100_000], 0);
        loop {
            let received = reader.read(&mut buffer).await?;
            for (place, byte) in buffer[..received].iter().enumerate() {
                assert_eq!(*byte, ((count + place) / 65536) as u8);
            }
            count += received;
            if received == 0 {
                break sender.await?.map(|()| count);
            }
        }
    }

    run_io(async {
        let (near, far) = tcp_pair().await?;
        let (near, far) = (spawn(exchange(Rc::new(near))), spawn(exchange(Rc::new(far))));
        assert_eq!((near.await??, far.await??), (SIZE, SIZE));
        Ok(())
    });
}

#[test]
fn who_connects_is_told_of_refusal() {
    run_io(async {
        let gone = TcpListener::bind(any_port())?.local_addr()?;
        let error = Async::<TcpStream>::connect(gone).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let error = Async::<TcpStream>::connect_host("localhost", gone.port()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let error = Async::<UnixStream>::connect("/nonexistent/socket").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let error = Async::<UnixStream>::connect("x".repeat(200)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidFilename);
        Ok(())
    });
}

/// A queue that is full answers nothing: the connection waits, and can be given up.
#[test]
fn a_connection_that_is_not_answered_waits() {
    run_io(async {
        let listener = rustix_listener()?;
        let address = listener.local_addr()?;
        let mut connected = Vec::new();
        loop {
            match timeout(secs(1) / 20, Async::<TcpStream>::connect(address)).await {
                Ok(stream) => connected.push(stream?),
                Err(Elapsed) => break,
            }
            assert!(connected.len() < 100);
        }
        let mut waiting = pin!(Async::<TcpStream>::connect(address));
        assert!(waits(waiting.as_mut()));
        let listener = Async::new(listener)?;
        for _ in 0..connected.len() {
            listener.accept().await?;
        }
        waiting.await?;
        Ok(())
    });
}

/// Takes one connection at a time.
fn rustix_listener() -> io::Result<TcpListener> {
    use rustix::net::{AddressFamily, SocketType, bind, listen, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&socket, &any_port())?;
    listen(&socket, 0)?;
    Ok(socket.into())
}

#[test]
fn a_host_with_several_addresses_is_tried_in_turn() {
    run_io(async {
        // Only one of localhost's addresses, whatever they are.
        for listener in [TcpListener::bind(any_port()), TcpListener::bind((Ipv6Addr::LOCALHOST, 0))] {
            let Ok(listener) = listener else { continue };
            let address = listener.local_addr()?;
            let Ok(mut found) = ("localhost", address.port()).to_socket_addrs() else { continue };
            if found.any(|found| found == address) {
                let stream = Async::<TcpStream>::connect_host("localhost", address.port()).await?;
                assert_eq!(stream.get_ref().peer_addr()?, address);
            }
        }
        Ok(())
    });
}

#[test]
fn unix_sockets_connect() {
    let directory = std::env::temp_dir().join(format!("ferrio-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("socket");
    run_io(async {
        let listener = Async::<UnixListener>::bind(&path)?;
        let (near, far) = (Async::<UnixStream>::connect(&path).await?, listener.accept().await?.0);
        (&near).write_all(b"hello").await?;
        let mut buffer = [0; 5];
        (&far).read_exact(&mut buffer).await?;
        assert_eq!(&buffer, b"hello");
        Ok(())
    });
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn a_full_queue_of_a_unix_listener_is_waited_for() {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket};
    let directory = std::env::temp_dir().join(format!("ferrio-queue-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("socket");
    run_io(async {
        let listener = socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
        bind(&listener, &SocketAddrUnix::new(&path)?)?;
        listen(&listener, 0)?;
        let listener = Async::new(UnixListener::from(listener))?;
        let _first = Async::<UnixStream>::connect(&path).await?;
        let second = spawn({
            let path = path.clone();
            async move { Async::<UnixStream>::connect(&path).await }
        });
        yield_now().await;
        listener.accept().await?;
        second.await??;
        Ok(())
    });
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn datagrams_go_there_and_back() {
    run_io(async {
        let (one, other) = (Async::<UdpSocket>::bind(any_port())?, Async::<UdpSocket>::bind(any_port())?);
        let (one_address, other_address) = (one.get_ref().local_addr()?, other.get_ref().local_addr()?);
        let echo = spawn(async move {
            let mut buffer = [0; 64];
            loop {
                let (length, sender) = other.recv_from(&mut buffer).await?;
                if length == 0 {
                    return io::Result::Ok(());
                }
                other.send_to(&buffer[..length], sender).await?;
            }
        });
        let mut buffer = [0; 64];
        for size in 1..=64 {
            one.send_to(&buffer[..size], other_address).await?;
            assert_eq!(one.recv_from(&mut buffer).await?, (size, other_address));
        }
        one.get_ref().connect(other_address)?;
        assert_eq!(one.send(b"ping").await?, 4);
        assert_eq!(one.recv(&mut buffer).await?, 4);
        one.send(b"").await?;
        assert_eq!(one_address.ip(), Ipv4Addr::LOCALHOST);
        echo.await?
    });
}

/// A kernel that tells of changes tells only once of what is not taken.
#[test]
fn readable_knows_what_has_been_there_for_long() {
    run_io(async {
        let (near, far) = Async::<UnixStream>::pair()?;
        let mut two = [0; 2];
        let mut first = pin!(far.readable());
        assert!(waits(first.as_mut()));
        (&near).write_all(b"abcd").await?;
        first.await?;
        (&far).read_exact(&mut two).await?;
        far.readable().await?;
        far.readable().await?;
        (&far).read_exact(&mut two).await?;
        assert_eq!(&two, b"cd");
        assert!(timeout(secs(1) / 100, far.readable()).await.is_err());
        near.writable().await?;
        near.writable().await
    });
}

#[test]
fn all_who_wait_are_woken() {
    run_io(async {
        let (near, far) = Async::<UnixStream>::pair()?;
        let far = Rc::new(far);
        let tasks: Vec<_> = (0..5)
            .map(|_| {
                let far = Rc::clone(&far);
                spawn(async move { read_byte(&far).await })
            })
            .collect();
        yield_now().await;
        let mut bytes = Vec::new();
        (&near).write_all(b"01234").await?;
        for task in tasks {
            bytes.push(task.await??);
        }
        bytes.sort_unstable();
        assert_eq!(bytes, b"01234");
        Ok(())
    });
}

/// One that gives up takes nothing, and leaves no place behind.
#[test]
fn who_gives_up_loses_nothing() {
    run_io(async {
        let (near, far) = Async::<UnixStream>::pair()?;
        for round in 0..50 {
            for _ in 0..3 {
                assert!(waits(pin!(read_byte(&far))));
            }
            {
                let mut waiting = pin!(read_byte(&far));
                assert!(waits(waiting.as_mut()));
                (&near).write_all(&[round]).await?;
                // It is woken, and does not come.
                sleep(secs(1) / 1000).await;
            }
            assert_eq!(read_byte(&far).await?, round);
        }
        Ok(())
    });
}

/// It never has to wait, and yet others run.
#[test]
fn a_flood_keeps_nobody_from_running() {
    const CALLS: usize = 100_000;
    run_io(async {
        let polled = spawn(async {
            let (mut zeros, mut byte) = (Async::new(File::open("/dev/zero")?)?, [0]);
            for _ in 0..CALLS {
                zeros.read_exact(&mut byte).await?;
            }
            io::Result::Ok(())
        });
        let called = spawn(async {
            let (zeros, mut byte) = (Async::new(File::open("/dev/zero")?)?, [0]);
            for _ in 0..CALLS {
                zeros.read_with(|mut file| file.read(&mut byte)).await?;
            }
            io::Result::Ok(())
        });
        for _ in 0..100 {
            yield_now().await;
        }
        assert!(!polled.is_finished() && !called.is_finished());
        Ok(())
    });
}

#[test]
fn what_has_no_readiness_cannot_be_waited_for() {
    run_io(async {
        let file = Async::new(File::open("/proc/self/exe")?)?;
        assert_eq!(file.readable().await.unwrap_err().kind(), ErrorKind::PermissionDenied);
        let mut head = [0; 4];
        (&file).read_exact(&mut head).await?;
        assert_eq!(&head, b"\x7fELF");
        Ok(())
    });
}

/// A number that is given away at once, while what was told of its last owner is still in the queue.
#[test]
fn the_next_owner_of_a_number_is_not_woken_for_the_last() {
    run_io(async {
        let (near, far) = Async::<UnixStream>::pair()?;
        let number = far.as_fd().as_raw_fd();
        let reader = spawn(async move { read_byte(&far).await });
        yield_now().await;
        (&near).write_all(b"x").await?;
        reader.abort();
        assert!(reader.await.is_err());
        let (_keep, next) = Async::<UnixStream>::pair()?;
        let next = if next.as_fd().as_raw_fd() == number { &next } else { &_keep };
        assert_eq!(next.as_fd().as_raw_fd(), number);
        assert!(timeout(secs(1) / 100, next.readable()).await.is_err());
        Ok(())
    });
}

#[test]
fn it_goes_from_loop_to_loop() {
    let (near, far) = Async::<UnixStream>::pair().unwrap();
    for round in 0..3 {
        run_io(async {
            let mut waiting = pin!(read_byte(&far));
            assert!(waits(waiting.as_mut()));
            (&near).write_all(&[round]).await?;
            assert_eq!(waiting.await?, round);
            Ok(())
        });
    }
}

/// Whoever waits on the loop that it was taken from looks again, and takes it back.
#[test]
fn a_nested_loop_borrows_it() {
    let (outer, inner) = (monotonic(), monotonic());
    let (near, far) = Async::<UnixStream>::pair().unwrap();
    let far = Rc::new(far);
    let log = Log::default();
    run_on(&outer, async {
        let task = spawn({
            let (far, log) = (Rc::clone(&far), log.clone());
            async move { log.add(read_byte(&far).await.unwrap()) }
        });
        yield_now().await;
        run_on(&inner, async {
            assert!(timeout(secs(1) / 1000, read_byte(&far)).await.is_err());
        })
        .unwrap();
        (&near).write_all(b"2").await.unwrap();
        timeout(secs(20), task).await.unwrap().unwrap();
    })
    .unwrap();
    assert_eq!(log.take(), [b'2']);
}

#[test]
fn a_closed_loop_is_an_error() {
    let event_loop = stepped();
    let (_near, far) = Async::<UnixStream>::pair().unwrap();
    let _entered = event_loop.enter();
    let mut waiting = pin!(far.readable());
    assert!(waits(waiting.as_mut()));
    drop(event_loop.close());
    let mut refused = pin!(far.readable());
    let Poll::Ready(result) = refused.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("it waits for a closed loop")
    };
    let error = result.unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::NotConnected, "the event loop is closed"));
}

/// The loop, its tasks, their streams and their wakers refer to each other.
#[test]
fn nothing_is_left_when_the_loop_ends() {
    let alive = Rc::new(Cell::new(0));
    struct Guard(Rc<Cell<i32>>);
    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.set(self.0.get() - 1);
        }
    }
    let (near, far) = UnixStream::pair().unwrap();
    run(async {
        let mut far = Async::new(far).unwrap();
        let guard = Guard(Rc::clone(&alive));
        alive.set(alive.get() + 1);
        drop(spawn(async move {
            let _guard = guard;
            far.read_exact(&mut [0]).await.unwrap();
        }));
        yield_now().await;
    })
    .unwrap();
    assert_eq!(alive.get(), 0);
    // Its end is closed.
    assert_eq!((&near).read(&mut [0]).unwrap(), 0);
    assert_eq!((&near).write(&[0]).unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[test]
fn the_pipes_of_a_child_are_read_and_written() {
    run_io(async {
        let mut child = Command::new("tr").args(["a-z", "A-Z"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let writer = spawn(async move {
            let mut stdin = Async::new(stdin)?;
            for _ in 0..100 {
                stdin.write_all(&[b'x'; 10_000]).await?;
            }
            // A pipe has nothing to shut down: it ends here.
            stdin.close().await
        });
        let mut text = String::new();
        Async::new(stdout)?.read_to_string(&mut text).await?;
        assert!(text.len() == 1_000_000 && text.bytes().all(|byte| byte == b'X'));
        writer.await??;
        assert!(ferrio::exit_status(&mut child).await?.success());
        Ok(())
    });
}

/// What another thread does to the other end ends a sleep of the loop.
#[test]
fn many_threads_talk_to_one_loop() {
    const THREADS: usize = 8;
    const ROUNDS: usize = 300;
    run_io(async {
        let listener = Async::<TcpListener>::bind(any_port())?;
        let address = listener.get_ref().local_addr()?;
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                thread::spawn(move || {
                    let mut stream = TcpStream::connect(address)?;
                    let mut byte = [0];
                    for round in 0..ROUNDS {
                        stream.write_all(&[round as u8])?;
                        stream.read_exact(&mut byte)?;
                        assert_eq!(byte, [round as u8]);
                    }
                    io::Result::Ok(())
                })
            })
            .collect();
        let mut served = Vec::new();
        for _ in 0..THREADS {
            let (mut stream, _) = listener.accept().await?;
            served.push(spawn(async move {
                let (mut buffer, mut count) = ([0; 64], 0);
                loop {
                    let received = stream.read(&mut buffer).await?;
                    if received == 0 {
                        return io::Result::Ok(count);
                    }
                    stream.write_all(&buffer[..received]).await?;
                    count += received;
                }
            }));
        }
        for task in served {
            assert_eq!(task.await??, ROUNDS);
        }
        unblock(|| threads.into_iter().try_for_each(|thread| thread.join().unwrap())).await
    });
}

#[test]
fn no_loop_is_needed_by_what_does_not_wait() {
    assert!(EventLoop::current().is_none());
    let (near, far) = Async::<UnixStream>::pair().unwrap();
    near.into_inner().write_all(b"x").unwrap();
    let mut reading = pin!(read_byte(&far));
    assert!(matches!(reading.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(b'x'))));
    assert!(format!("{far:?}").starts_with("Async(UnixStream"));
}

#[test]
fn a_wait_beside_a_timer_is_ended_by_it() {
    run_io(async {
        let (_near, far) = Async::<UnixStream>::pair()?;
        let far = Rc::new(far);
        let task = spawn(async move { timeout(secs(1) / 100, far.readable()).await.is_err() });
        sleep(secs(1) / 50).await;
        assert!(task.await?);
        _ = timeout(secs(0), pending::<()>()).await;
        Ok(())
    });
}
