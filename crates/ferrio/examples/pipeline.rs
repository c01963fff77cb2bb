//! Processes in a row: what `sort | uniq -c` makes of this program's words, line by line.
//!
//!     cargo run -p ferrio --example pipeline

use std::io;
use std::process::{Command, Stdio};

use ferrio::{Async, TaskGroup, exit_status, task_group};
use futures_lite::{AsyncBufReadExt, AsyncWriteExt, StreamExt, io::BufReader};

/// The lines that come out when `words` go in.
pub(crate) async fn count(words: Vec<String>) -> io::Result<Vec<String>> {
    task_group(async |group: &TaskGroup<io::Error>| {
        let mut sort = Command::new("sort").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(input), Some(sorted)) = (sort.stdin.take(), sort.stdout.take()) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let mut uniq = Command::new("uniq").arg("-c").stdin(sorted).stdout(Stdio::piped()).spawn()?;
        let Some(output) = uniq.stdout.take() else { return Err(io::ErrorKind::BrokenPipe.into()) };

        // Beside the reading: else both ends might wait for each other.
        group.spawn(async move {
            let mut input = Async::new(input)?;
            for word in words {
                input.write_all(format!("{word}\n").as_bytes()).await?;
            }
            // Dropped here, which is the end of the pipe.
            Ok(())
        });
        let lines = BufReader::new(Async::new(output)?).lines().try_collect().await?;
        for child in [&mut sort, &mut uniq] {
            let status = exit_status(child).await?;
            if !status.success() {
                return Err(io::Error::other(status.to_string()));
            }
        }
        Ok(lines)
    })
    .await
}

#[allow(dead_code, reason = "the test of this example brings its own")]
fn main() -> io::Result<()> {
    let words = include_str!("pipeline.rs").split_whitespace().map(String::from).collect();
    for line in ferrio::run(count(words))?? {
        println!("{line}");
    }
    Ok(())
}
