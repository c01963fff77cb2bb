//! Two cells of the asyncio notebook, in Rust: two tasks beside each other, and what a timeout does.
//!
//!     cargo run -p ferrio --example notebook
//!
//! `FERRIO_SCALE=0.01` makes its seconds a hundred times shorter.

use std::future::pending;
use std::io;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ferrio::{Aborted, sleep, spawn, timeout};

/// Where the lines go, and how long a second is.
pub(crate) struct Notebook {
    /// Takes a line.
    pub(crate) print: Box<dyn Fn(String)>,
    /// One for seconds as they are.
    pub(crate) scale: f64,
}

impl Notebook {
    fn seconds(&self, seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds * self.scale)
    }

    async fn job(self: Rc<Self>, task_id: u32, sleep_time: f64) {
        (self.print)(format!("Task {task_id}: start"));
        sleep(self.seconds(sleep_time)).await;
        (self.print)(format!("Task {task_id}: done"));
    }

    /// The cell with two tasks: they take two seconds together, not three.
    pub(crate) async fn two_tasks(self: Rc<Self>) -> Result<(), Aborted> {
        let task1 = spawn(Rc::clone(&self).job(1, 1.0));
        let task2 = spawn(Rc::clone(&self).job(2, 2.0));
        (self.print)(format!("started at {}", time_of_day()));
        task1.await?;
        task2.await?;
        (self.print)(format!("finished at {}", time_of_day()));
        Ok(())
    }

    async fn long_running_task(self: Rc<Self>) {
        sleep(self.seconds(3600.0)).await;
    }

    /// The cell with two timeouts.
    pub(crate) async fn timeouts(self: Rc<Self>) {
        if timeout(self.seconds(10.0), Rc::clone(&self).long_running_task()).await.is_err() {
            (self.print)("The long operation timed out, but we've handled it.".into());
        }
        let eternity = pending::<()>();
        if timeout(self.seconds(1.6), eternity).await.is_err() {
            (self.print)("timeout!".into());
        }
        (self.print)("This statement will run regardless.".into());
    }
}

/// The time of day in UTC, which is all that the standard library knows.
fn time_of_day() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    format!("{:02}:{:02}:{:02}", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)
}

#[allow(dead_code, reason = "the test of this example brings its own")]
fn main() -> io::Result<()> {
    let scale = std::env::var("FERRIO_SCALE").ok().and_then(|scale| scale.parse().ok()).unwrap_or(1.0);
    let notebook = Rc::new(Notebook { print: Box::new(|line| println!("{line}")), scale });
    ferrio::run(async {
        Rc::clone(&notebook).two_tasks().await?;
        notebook.timeouts().await;
        Ok(())
    })?
}
