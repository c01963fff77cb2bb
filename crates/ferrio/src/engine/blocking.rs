//! Threads for what would block the loop.
//!
//! One lock guards all of it: a queue of jobs and a few numbers. A job goes to a thread that idles, or else to a new
//! one, or waits if there are enough. A thread that has idled for long ends.
//!
//! A job is an `async-task` that is done after one poll: that gives it an awaiter, a place for its result, and a way to
//! be forgotten if nobody waits for it by the time its turn comes.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::thread;
use std::time::Duration;

use super::task::Contained;

/// Far more than a program keeps busy, and few enough that a flood of jobs does not take the machine down.
const THREADS: usize = 256;
/// Long enough that a program which blocks now and then does not start a thread each time.
const IDLE: Duration = Duration::from_secs(10);

/// Threads that run closures, started on demand up to a bound.
///
/// ```
/// use ferrio::engine::BlockingPool;
///
/// let pool = BlockingPool::default();
/// let task = pool.submit(|| std::fs::metadata("/").map(|found| found.is_dir()))?;
/// assert!(ferrio::run(task)??);
/// pool.close();
/// pool.wait();
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct BlockingPool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// There is a job, or there will be none any more.
    work: Condvar,
    /// The last thread has ended.
    ended: Condvar,
    max_threads: usize,
    max_idle: Duration,
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<async_task::Runnable>,
    /// Threads that exist.
    threads: usize,
    /// Threads that wait for a job. One that has been notified counts until it has the lock, and its job until then.
    idle: usize,
    /// Threads that were ever started, for their names.
    started: usize,
    closed: bool,
}

/// A closure that was given to a [`BlockingPool`]; it resolves to what the closure returns.
///
/// # Panics
///
/// If the closure panicked, with the closure's panic; if the pool was closed before the closure had begun.
///
/// # Cancel safety
///
/// Dropping it keeps a closure that has not begun from running: it is dropped when its turn comes, on the thread that
/// would have run it. One that has begun runs to its end, and its result is dropped.
#[derive(Debug)]
#[must_use = "dropping it keeps the closure from running, unless that has begun"]
pub struct BlockingTask<T>(async_task::FallibleTask<Contained<thread::Result<T>>>);

impl Default for BlockingPool {
    fn default() -> Self {
        Self::new(THREADS, IDLE)
    }
}

impl BlockingPool {
    /// Makes a pool of at most `max_threads`, which end after `max_idle` without a job. It has none yet.
    pub fn new(max_threads: usize, max_idle: Duration) -> Self {
        let (state, work, ended) = Default::default();
        Self(Arc::new(Shared { state, work, ended, max_threads: max_threads.max(1), max_idle }))
    }

    /// Has a thread run `job`.
    ///
    /// # Errors
    ///
    /// If the pool is closed, or if it has no thread and the system refuses one (`EAGAIN`).
    pub fn submit<T, F>(&self, job: F) -> io::Result<BlockingTask<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let mut job = Contained::new(job);
        let job = async move {
            let run = || job.take().map(|job| job());
            match catch_unwind(AssertUnwindSafe(run)).transpose() {
                Some(result) => Contained::new(result),
                None => unreachable!("the job is taken by the only poll"),
            }
        };
        // Nothing in a job waits, so nothing schedules it but the push below.
        let (runnable, task) = async_task::spawn(job, drop);
        self.0.push(runnable)?;
        Ok(BlockingTask(task.fallible()))
    }

    /// How many threads there are.
    pub fn threads(&self) -> usize {
        self.0.lock().threads
    }

    /// Refuses jobs from now on, drops those that wait, and lets the threads end when they have done what they do now.
    pub fn close(&self) {
        let mut state = self.0.lock();
        state.closed = true;
        let jobs = std::mem::take(&mut state.jobs);
        drop(state);
        self.0.work.notify_all();
        drop(jobs);
    }

    /// Blocks until no thread is left, which takes a [`close`](Self::close) before.
    pub fn wait(&self) {
        let mut state = self.0.lock();
        while state.threads > 0 {
            state = self.0.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for BlockingPool {
    fn drop(&mut self) {
        self.close();
    }
}

impl<T> Future for BlockingTask<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match ready!(Pin::new(&mut self.0).poll(cx)).and_then(Contained::into_inner) {
            Some(Ok(output)) => Poll::Ready(output),
            Some(Err(payload)) => resume_unwind(payload),
            None => panic!("the blocking pool was closed before the closure had begun"),
        }
    }
}

impl Shared {
    fn push(self: &Arc<Self>, job: async_task::Runnable) -> io::Result<()> {
        let mut state = self.lock();
        if state.closed {
            drop(state);
            drop(job);
            return Err(io::Error::other("the blocking pool is closed"));
        }
        state.jobs.push_back(job);
        if state.jobs.len() <= state.idle {
            drop(state);
            self.work.notify_one();
            return Ok(());
        }
        if state.threads == self.max_threads {
            return Ok(());
        }
        let name = format!("ferrio-blocking-{}", state.started);
        let shared = Arc::clone(self);
        // Under the lock, which the new thread then waits for: so the numbers are right whatever happens here.
        match thread::Builder::new().name(name).spawn(move || shared.work()) {
            Ok(_) => {
                state.threads += 1;
                state.started += 1;
                Ok(())
            }
            // The threads that there are will come to it.
            Err(_) if state.threads > 0 => Ok(()),
            Err(error) => {
                let job = state.jobs.pop_back();
                drop(state);
                drop(job);
                Err(error)
            }
        }
    }

    /// What a thread does.
    fn work(&self) {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                job.run();
                state = self.lock();
                continue;
            }
            if state.closed {
                break;
            }
            state.idle += 1;
            let waited = self.work.wait_timeout(state, self.max_idle);
            let (guard, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = guard;
            state.idle -= 1;
            if timeout.timed_out() && state.jobs.is_empty() {
                break;
            }
        }
        state.threads -= 1;
        if state.threads == 0 {
            self.ended.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No job runs under the lock, and nothing else panics there.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
