//! The addresses of a host, and the attempts to connect to them.
//!
//! They are tried one after the other, or, with `happy_eyeballs_delay`, each in a task of its own: the next one begins
//! when the one before has failed, or has taken that long. The first that connects wins; the others are cancelled, and
//! awaited, so that all their sockets are closed before there is a transport.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use pyo3::exceptions::{PyException, PyGeneratorExit, PyOSError, PyTimeoutError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PySlice, PyWeakrefMethods, PyWeakrefReference};

use super::OpenSocket;
use crate::asyncio;
use crate::coroutine::{Coroutine, await_};
use crate::event_loop::EventLoop;
use crate::event_loop::dns::{Lookup, lookup};
use crate::event_loop::weak_loop::WeakLoop;
use crate::ffi::cell::GilCell;
use crate::tasks;

/// Where to connect to.
pub(super) struct Destination {
    pub(super) host: Option<Py<PyAny>>,
    pub(super) port: Option<Py<PyAny>>,
    /// The family, the protocol and the flags that `getaddrinfo` is given.
    pub(super) hints: [Option<Py<PyAny>>; 3],
    /// Where to connect from.
    pub(super) local_addr: Option<Py<PyAny>>,
}

/// In which way.
pub(super) struct How {
    /// Seconds.
    pub(super) happy_eyeballs_delay: Option<f64>,
    pub(super) interleave: Option<i64>,
    pub(super) all_errors: bool,
}

impl Destination {
    /// A socket that is connected to one of the addresses.
    ///
    /// # Errors
    ///
    /// `OSError` if there is none that can be connected to.
    pub(super) async fn connect(self, event_loop: &WeakLoop, how: &How) -> PyResult<OpenSocket> {
        let infos = self.look_up(event_loop, self.host.as_ref(), self.port.as_ref()).await?;
        let local = match &self.local_addr {
            Some(address) => {
                let (host, port) = Python::attach(|py| host_and_port(address.bind(py)))?;
                Some(self.look_up(event_loop, Some(&host), Some(&port)).await?)
            }
            None => None,
        };
        let first = how.interleave.unwrap_or(i64::from(how.happy_eyeballs_delay.is_some()));
        let infos = Python::attach(|py| if first == 0 { Ok(infos) } else { interleaved(py, infos, first) })?;
        let attempts = Arc::new(Attempts { infos, local, ..Attempts::default() });
        let socket = match how.happy_eyeballs_delay {
            None => attempts.in_turn(event_loop).await?,
            Some(delay) => race(event_loop, &attempts, delay).await?,
        };
        socket.ok_or_else(|| Python::attach(|py| attempts.failure(py, how.all_errors)))
    }

    async fn look_up(
        &self,
        event_loop: &WeakLoop,
        host: Option<&Py<PyAny>>,
        port: Option<&Py<PyAny>>,
    ) -> PyResult<Vec<Py<PyAny>>> {
        let [family, proto, flags] = &self.hints;
        let query = Python::attach(|py| {
            let clone = |argument: Option<&Py<PyAny>>| argument.map(|argument| argument.clone_ref(py));
            Lookup::new(py, clone(host), clone(port), family, proto, flags)
        })?;
        found(lookup(event_loop, query).await?)
    }
}

/// The addresses that a lookup has found.
pub(in crate::event_loop) fn found(infos: Py<PyAny>) -> PyResult<Vec<Py<PyAny>>> {
    let infos = Python::attach(|py| infos.bind(py).try_iter()?.map(|info| info.map(Bound::unbind)).collect());
    match infos {
        Ok(infos) if Vec::is_empty(&infos) => Err(PyOSError::new_err("getaddrinfo() returned empty list")),
        infos => infos,
    }
}

/// The first two parts of an address, which can have more.
fn host_and_port(address: &Bound<'_, PyAny>) -> PyResult<(Py<PyAny>, Py<PyAny>)> {
    let py = address.py();
    let parts = address.get_item(PySlice::new(py, 0, 2, 1))?.try_iter()?.collect::<PyResult<Vec<_>>>()?;
    match parts.as_slice() {
        [host, port] => Ok((host.clone().unbind(), port.clone().unbind())),
        _ => {
            let text = format!("not enough values to unpack (expected 2, got {})", parts.len());
            Err(PyValueError::new_err(text))
        }
    }
}

/// The addresses with their families in turn, the first family's `first` addresses at the beginning.
fn interleaved(py: Python<'_>, infos: Vec<Py<PyAny>>, first: i64) -> PyResult<Vec<Py<PyAny>>> {
    let mut families: Vec<(i32, VecDeque<Py<PyAny>>)> = Vec::new();
    for info in infos {
        let family = info.bind(py).get_item(0)?.extract()?;
        match families.iter_mut().find(|(known, _)| *known == family) {
            Some((_, group)) => group.push_back(info),
            None => families.push((family, [info].into())),
        }
    }
    let mut ordered = Vec::new();
    if let Some((_, group)) = families.first_mut() {
        let before_the_turns = usize::try_from(first.saturating_sub(1)).unwrap_or(0);
        ordered.extend(group.drain(..before_the_turns.min(group.len())));
    }
    while families.iter().any(|(_, group)| !group.is_empty()) {
        ordered.extend(families.iter_mut().filter_map(|(_, group)| group.pop_front()));
    }
    Ok(ordered)
}

/// The attempts to connect to one host.
#[derive(Default)]
struct Attempts {
    infos: Vec<Py<PyAny>>,
    /// Where to connect from; `None` for wherever.
    local: Option<Vec<Py<PyAny>>>,
    /// What failed, in the order in which the attempts were begun.
    errors: GilCell<Vec<(usize, PyErr)>>,
    /// How a race ended: the first socket that connected, or what is not for another attempt to mend.
    outcome: GilCell<Option<PyResult<OpenSocket>>>,
}

impl Attempts {
    /// Tries one address after the other.
    async fn in_turn(&self, event_loop: &WeakLoop) -> PyResult<Option<OpenSocket>> {
        for index in 0..self.infos.len() {
            if let Some(socket) = self.attempt(event_loop, index).await? {
                return Ok(Some(socket));
            }
        }
        Ok(None)
    }

    /// One attempt; `None` if it failed, as networks do.
    async fn attempt(&self, event_loop: &WeakLoop, index: usize) -> PyResult<Option<OpenSocket>> {
        match self.connect(event_loop, index).await {
            Ok(socket) => Ok(Some(socket)),
            Err(error) => Python::attach(|py| {
                if !error.is_instance_of::<PyOSError>(py) {
                    return Err(error);
                }
                self.errors.with(py, |errors| errors.push((index, error)));
                Ok(None)
            }),
        }
    }

    async fn connect(&self, event_loop: &WeakLoop, index: usize) -> PyResult<OpenSocket> {
        let (socket, address) = Python::attach(|py| {
            let info = self.infos[index].bind(py);
            let keywords = PyDict::new(py);
            for (position, name) in ["family", "type", "proto"].into_iter().enumerate() {
                keywords.set_item(name, info.get_item(position)?)?;
            }
            let class = asyncio::socket_module(py)?.getattr(intern!(py, "socket"))?;
            let socket = OpenSocket::new(class.call((), Some(&keywords))?.unbind());
            let sock = socket.get(py)?;
            sock.call_method1(intern!(py, "setblocking"), (false,))?;
            self.bind_locally(sock, index, &info.get_item(0)?)?;
            let address = info.get_item(4)?.unbind();
            PyResult::Ok((socket, address))
        })?;
        socket.connect(event_loop, address).await?;
        Ok(socket)
    }

    /// Binds to the first local address of the family that can be bound to.
    fn bind_locally(&self, sock: &Bound<'_, PyAny>, index: usize, family: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = sock.py();
        let Some(local) = &self.local else { return Ok(()) };
        let mut refusals = Vec::new();
        for info in local {
            let info = info.bind(py);
            if !info.get_item(0)?.eq(family)? {
                continue;
            }
            let address = info.get_item(4)?;
            match sock.call_method1(intern!(py, "bind"), (&address,)) {
                Ok(_) => {
                    self.errors.with(py, |errors| errors.extend(refusals));
                    return Ok(());
                }
                Err(error) if error.is_instance_of::<PyOSError>(py) => {
                    let value = error.value(py);
                    let text = value.str()?.to_string().to_lowercase();
                    let text = format!("error while attempting to bind on address {}: {text}", address.repr()?);
                    let number = value.getattr(intern!(py, "errno"))?;
                    refusals.push((index, PyErr::from_value(py.get_type::<PyOSError>().call1((number, text))?)));
                }
                Err(error) => return Err(error),
            }
        }
        let last = refusals.pop();
        self.errors.with(py, |errors| errors.extend(refusals));
        Err(last.map_or_else(
            || {
                let family = family.repr().map_or_else(|_| String::new(), |family| family.to_string());
                PyOSError::new_err(format!("no matching local address with family={family} found"))
            },
            |(_, error)| error,
        ))
    }

    /// Whether a race is over.
    fn is_decided(&self) -> bool {
        Python::attach(|py| self.outcome.with(py, |outcome| outcome.is_some()))
    }

    /// What is raised when no address could be connected to.
    fn failure(&self, py: Python<'_>, all: bool) -> PyErr {
        let mut errors = self.errors.take(py);
        errors.sort_by_key(|(index, _)| *index);
        let errors: Vec<PyErr> = errors.into_iter().map(|(_, error)| error).collect();
        if all {
            let values = errors.iter().map(|error| error.value(py).clone()).collect::<Vec<_>>();
            let group = PyList::new(py, values).and_then(|errors| {
                let class = asyncio::module(py, "builtins")?.getattr(intern!(py, "ExceptionGroup"))?;
                class.call1(("create_connection failed", errors))
            });
            return group.map_or_else(|error| error, PyErr::from_value);
        }
        let texts: Vec<String> = errors.iter().map(|error| error.value(py).to_string()).collect();
        let are_same = texts.iter().all(|text| Some(text) == texts.first());
        match errors.into_iter().next() {
            Some(first) if are_same => first,
            Some(_) => PyOSError::new_err(format!("Multiple exceptions: {}", texts.join(", "))),
            None => PyTimeoutError::new_err("create_connection failed"),
        }
    }
}

/// Tries the addresses, the next one whenever the one before has failed or `delay` seconds have passed: the socket that
/// connects first.
async fn race(event_loop: &WeakLoop, attempts: &Arc<Attempts>, delay: f64) -> PyResult<Option<OpenSocket>> {
    let mut runners = Runners(Vec::new());
    let mut failure = None;
    for index in 0..attempts.infos.len() {
        let is_last = index + 1 == attempts.infos.len();
        let begun = Python::attach(|py| runners.begin(&event_loop.get(py)?, attempts, index));
        failure = match begun {
            Ok(()) => runners.give_time(attempts, if is_last { None } else { Some(delay) }).await.err(),
            Err(error) => Some(error),
        };
        if failure.is_some() || attempts.is_decided() {
            break;
        }
    }
    // Losers are cancelled, and gone, before there is an answer; also when the race itself was cancelled, even twice.
    loop {
        Python::attach(|py| runners.cancel(py))?;
        if is_exit(&failure) {
            break;
        }
        let Some(ending) = Python::attach(|py| runners.wait(py, None, true))? else { break };
        if let Err(error) = await_(ending).await {
            failure = Some(error);
        }
    }
    let outcome = Python::attach(|py| attempts.outcome.take(py));
    match failure {
        Some(error) => Err(error),
        None => outcome.transpose(),
    }
}

/// Whether the coroutine is being closed, and must not wait for anything.
fn is_exit(failure: &Option<PyErr>) -> bool {
    failure.as_ref().is_some_and(|error| Python::attach(|py| error.is_instance_of::<PyGeneratorExit>(py)))
}

/// The tasks of a race. The loop keeps them; a body must not, because the collector does not look inside.
struct Runners(Vec<Py<PyWeakrefReference>>);

impl Runners {
    fn begin(&mut self, event_loop: &Bound<'_, EventLoop>, attempts: &Arc<Attempts>, index: usize) -> PyResult<()> {
        let py = event_loop.py();
        let weak_loop = WeakLoop::new(event_loop)?;
        let attempts = Arc::clone(attempts);
        let body = Coroutine::new(py, "connect", async move {
            let outcome = attempts.attempt(&weak_loop, index).await.transpose();
            Python::attach(|py| {
                if let Some(Err(error)) = &outcome
                    && !error.is_instance_of::<PyException>(py)
                {
                    // A cancellation, for one, is the task's own end.
                    return Err(error.clone_ref(py));
                }
                // Two can connect in one turn: the second one is closed, outside of the borrow.
                let second = attempts
                    .outcome
                    .with(py, |own| if own.is_none() { std::mem::replace(own, outcome) } else { outcome });
                drop(second);
                Ok(py.None())
            })
        })?;
        let task = event_loop.call_method1(intern!(py, "create_task"), (body,))?;
        self.0.push(PyWeakrefReference::new(&task)?.unbind());
        Ok(())
    }

    /// Waits until the attempt that began last has failed, `delay` seconds have passed, or the race is decided. `None`
    /// for no delay: until all have failed.
    async fn give_time(&self, attempts: &Attempts, delay: Option<f64>) -> PyResult<()> {
        let begun = Instant::now();
        loop {
            // Where an earlier one has failed, this one goes on.
            let has_failed = delay.is_some() && Python::attach(|py| self.last_is_done(py))?;
            if has_failed || attempts.is_decided() {
                return Ok(());
            }
            let left = delay.map(|delay| (delay - begun.elapsed().as_secs_f64()).max(0.0));
            let Some(waiting) = Python::attach(|py| self.wait(py, left, false))? else { return Ok(()) };
            await_(waiting).await?;
            if delay.is_some_and(|delay| delay - begun.elapsed().as_secs_f64() <= 0.0) {
                return Ok(());
            }
        }
    }

    fn last_is_done(&self, py: Python<'_>) -> PyResult<bool> {
        match self.0.last().and_then(|weak| weak.bind(py).upgrade()) {
            Some(task) => task.call_method0(intern!(py, "done"))?.is_truthy(),
            None => Ok(true),
        }
    }

    fn pending<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let mut pending = Vec::new();
        for task in self.0.iter().filter_map(|weak| weak.bind(py).upgrade()) {
            if !task.call_method0(intern!(py, "done"))?.is_truthy()? {
                pending.push(task);
            }
        }
        Ok(pending)
    }

    fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        self.pending(py)?.into_iter().try_for_each(|task| task.call_method0(intern!(py, "cancel")).map(drop))
    }

    /// What to await until one of the tasks, or `all` of them, are done; `None` if they are.
    fn wait(&self, py: Python<'_>, timeout: Option<f64>, all: bool) -> PyResult<Option<Py<PyAny>>> {
        let pending = self.pending(py)?;
        if pending.is_empty() {
            return Ok(None);
        }
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "timeout"), timeout)?;
        keywords.set_item(intern!(py, "return_when"), if all { "ALL_COMPLETED" } else { "FIRST_COMPLETED" })?;
        tasks::function(py, "wait")?.call((pending,), Some(&keywords)).map(|waiting| Some(waiting.unbind()))
    }
}
