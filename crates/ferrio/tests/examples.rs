//! The programs in `examples/` that talk to others.

#![allow(clippy::unwrap_used, reason = "helpers outside of a test function unwrap like the tests do")]

mod common;

#[path = "../examples/chat.rs"]
mod chat;
#[path = "../examples/fetch.rs"]
mod fetch;
#[path = "../examples/pipeline.rs"]
mod pipeline;

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use async_channel::bounded;
use common::secs;
use ferrio::{Async, run, spawn, timeout, unblock};

fn listener() -> (Async<TcpListener>, SocketAddr) {
    let listener = Async::<TcpListener>::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.get_ref().local_addr().unwrap();
    (listener, address)
}

/// Two plain programs that talk to each other.
fn talk(address: SocketAddr) {
    let [mut one, mut other] = [address; 2].map(|address| {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(secs(20))).unwrap();
        stream
    });
    let (mut first, mut second) =
        (BufReader::new(one.try_clone().unwrap()), BufReader::new(other.try_clone().unwrap()));
    let mut line = String::new();
    // A line that is said before somebody is there is lost on them: until both have been heard.
    let name = one.local_addr().unwrap();
    while !line.starts_with("127.0.0.1") {
        one.write_all(b"hello?\n").unwrap();
        other.set_read_timeout(Some(secs(1) / 10)).unwrap();
        _ = second.read_line(&mut line);
    }
    assert_eq!(line, format!("{name}: hello?\n"));
    other.write_all(b"hello!\n").unwrap();
    line.clear();
    first.read_line(&mut line).unwrap();
    assert!(line.ends_with(": hello!\n"), "{line}");
}

#[test]
fn what_one_says_in_the_chat_the_others_hear() {
    let (listener, address) = listener();
    let (end, ended) = bounded::<()>(1);
    let talking = thread::spawn(move || {
        talk(address);
        drop(end);
    });
    let ended = async move {
        _ = ended.recv().await;
        Ok(())
    };
    run(timeout(secs(60), chat::serve(listener, ended))).unwrap().unwrap().unwrap();
    talking.join().unwrap();
}

#[test]
fn pages_are_fetched() {
    fn serve(listener: &TcpListener, answer: &str) -> io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
        stream.write_all(answer.as_bytes())
    }

    let answers = [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, and more", Ok((200, b"hello".to_vec()))),
        ("HTTP/1.0 404 Not Found\r\n\r\nnothing here", Ok((404, b"nothing here".to_vec()))),
        ("SSH-2.0\r\n", Err(io::ErrorKind::InvalidData)),
        ("HTTP/1.1 200 OK\r\n", Err(io::ErrorKind::UnexpectedEof)),
    ];
    for (answer, expected) in answers {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        run(async {
            let server = spawn(unblock(move || serve(&listener, answer)));
            let page = timeout(secs(20), fetch::fetch("127.0.0.1", port, "/")).await.unwrap();
            assert_eq!(page.map_err(|error| error.kind()), expected);
            server.await.unwrap().unwrap();
        })
        .unwrap();
    }
}

#[test]
fn words_are_counted_by_processes() {
    let words = ["b", "a", "b", "c", "b"].repeat(20_000).into_iter().map(String::from).collect();
    let lines = run(timeout(secs(60), pipeline::count(words))).unwrap().unwrap().unwrap();
    assert_eq!(lines.iter().map(|line| line.trim()).collect::<Vec<_>>(), ["20000 a", "60000 b", "20000 c"]);
}
