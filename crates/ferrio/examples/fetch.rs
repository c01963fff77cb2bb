//! Several pages at once, each with a limit of time, by HTTP/1.1 without TLS.
//!
//!     cargo run -p ferrio --example fetch -- example.org info.cern.ch

use std::io;
use std::net::TcpStream;
use std::time::Duration;

use ferrio::{Async, spawn, timeout};
use futures_lite::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, io::BufReader};

const LIMIT: Duration = Duration::from_secs(10);

/// The status and the body of a page.
pub(crate) async fn fetch(host: &str, port: u16, path: &str) -> io::Result<(u16, Vec<u8>)> {
    let mut connection = Async::<TcpStream>::connect_host(host, port).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;

    let mut reader = BufReader::new(connection);
    let status = line(&mut reader).await?;
    let Some(status) = status.split(' ').nth(1).and_then(|status| status.parse().ok()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, status));
    };
    let mut length = None;
    loop {
        let header = line(&mut reader).await?;
        match header.split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.trim().parse().ok(),
            Some(_) => {}
            None => break,
        }
    }
    let mut body = Vec::new();
    match length {
        Some(length) => _ = reader.take(length).read_to_end(&mut body).await?,
        None => _ = reader.read_to_end(&mut body).await?,
    }
    Ok((status, body))
}

async fn line(reader: &mut BufReader<Async<TcpStream>>) -> io::Result<String> {
    let mut line = String::new();
    if reader.read_line(&mut line).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().into())
}

#[allow(dead_code, reason = "the test of this example brings its own")]
fn main() -> io::Result<()> {
    ferrio::run(async {
        let fetching: Vec<_> = std::env::args()
            .skip(1)
            .map(|host| spawn(async move { (timeout(LIMIT, fetch(&host, 80, "/")).await, host) }))
            .collect();
        for task in fetching {
            match task.await? {
                (Ok(Ok((status, body))), host) => println!("{host}: {status}, {} bytes", body.len()),
                (Ok(Err(error)), host) => println!("{host}: {error}"),
                (Err(elapsed), host) => println!("{host}: {elapsed}"),
            }
        }
        Ok(())
    })?
}
