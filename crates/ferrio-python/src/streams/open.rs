//! `open_connection`, `start_server`, and their relatives for Unix sockets.

use pyo3::PyTraverseError;
use pyo3::exceptions::PyTypeError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use super::{StreamReader, StreamReaderProtocol, StreamWriter};
use crate::asyncio;
use crate::coroutine::{Coroutine, Frame, Next, Outcome};
use crate::ffi::async_function::AsyncFunction;
use crate::ffi::method::CallArguments;

/// The arguments of a call: those that have a name here, and the others, which are for the loop's method.
struct Arguments<'py, const N: usize> {
    own: [Option<Bound<'py, PyAny>>; N],
    limit: Option<Bound<'py, PyAny>>,
    others: Bound<'py, PyDict>,
}

impl<'py, const N: usize> Arguments<'py, N> {
    fn new(
        py: Python<'py>,
        function: &str,
        names: [&str; N],
        required: usize,
        arguments: &CallArguments<'_, 'py>,
    ) -> PyResult<Self> {
        let mut own: [Option<Bound<'py, PyAny>>; N] =
            std::array::from_fn(|index| arguments.get(index).map(|it| it.to_owned()));
        if arguments.len() > N {
            let text = format!(
                "{function}() takes from {required} to {N} positional arguments but {} were given",
                arguments.len()
            );
            return Err(PyTypeError::new_err(text));
        }
        let others = PyDict::new(py);
        let mut limit = None;
        for (key, value) in arguments.named() {
            let name = key.cast::<PyString>()?.to_str()?;
            match names.iter().position(|own| *own == name) {
                Some(index) if own[index].is_some() => {
                    let text = format!("{function}() got multiple values for argument '{name}'");
                    return Err(PyTypeError::new_err(text));
                }
                Some(index) => own[index] = Some(value.to_owned()),
                None if name == "limit" => limit = Some(value.to_owned()),
                None => others.set_item(&key, value)?,
            }
        }
        if let Some((name, _)) = names.iter().zip(&own).take(required).find(|(_, value)| value.is_none()) {
            let text = format!("{function}() missing 1 required positional argument: '{name}'");
            return Err(PyTypeError::new_err(text));
        }
        Ok(Self { own, limit, others })
    }
}

/// Calls a method of the running loop, and makes streams of what comes of it.
struct Open {
    method: &'static str,
    /// For the loop's method, behind the protocol factory.
    arguments: Py<PyTuple>,
    keywords: Py<PyDict>,
    limit: Option<Py<PyAny>>,
    stage: Stage,
}

enum Stage {
    Begins,
    Connects { reader: Py<StreamReader>, protocol: Py<StreamReaderProtocol>, event_loop: Py<PyAny> },
}

impl Open {
    fn call<'py>(&self, event_loop: &Bound<'py, PyAny>, factory: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = event_loop.py();
        let arguments = std::iter::once(factory).chain(self.arguments.bind(py).iter()).collect::<Vec<_>>();
        event_loop.call_method(self.method, PyTuple::new(py, arguments)?, Some(self.keywords.bind(py)))
    }
}

impl Frame for Open {
    fn step<'py>(&mut self, py: Python<'py>, outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        let outcome = outcome?;
        let Stage::Connects { reader, protocol, event_loop } = &self.stage else {
            let event_loop = asyncio::running_loop(py)?;
            let reader = StreamReader::create(py, self.limit.as_ref().map(|limit| limit.bind(py)), &event_loop)?;
            let protocol = StreamReaderProtocol::create(&reader, None, &event_loop)?;
            let factory = Bound::new(py, Made(protocol.clone().into_any().unbind()))?.into_any();
            let connection = self.call(&event_loop, factory)?;
            self.stage = Stage::Connects {
                reader: reader.unbind(),
                protocol: protocol.unbind(),
                event_loop: event_loop.unbind(),
            };
            return Ok(Next::Await(connection));
        };
        let (transport, _): (Bound<'py, PyAny>, Bound<'py, PyAny>) = outcome.extract()?;
        let (reader, protocol) = (reader.bind(py).as_any(), protocol.bind(py).as_any());
        let writer = StreamWriter::create(&transport, protocol, Some(reader), event_loop.bind(py))?;
        Ok(Next::Return((reader, writer).into_pyobject(py)?.into_any()))
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.arguments)?;
        visit.call(&self.keywords)?;
        visit.call(&self.limit)?;
        match &self.stage {
            Stage::Begins => Ok(()),
            Stage::Connects { reader, protocol, event_loop } => {
                visit.call(reader)?;
                visit.call(protocol)?;
                visit.call(event_loop)
            }
        }
    }
}

/// A protocol factory that returns what was made already.
#[pyclass(frozen, module = "ferrio._ferrio")]
struct Made(Py<PyAny>);

#[pymethods]
impl Made {
    fn __call__(&self, py: Python<'_>) -> Py<PyAny> {
        self.0.clone_ref(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.0)
    }
}

/// Calls a method of the running loop with a factory of protocols.
struct Serve {
    method: &'static str,
    callback: Py<PyAny>,
    arguments: Py<PyTuple>,
    keywords: Py<PyDict>,
    limit: Option<Py<PyAny>>,
    begun: bool,
}

impl Frame for Serve {
    fn step<'py>(&mut self, py: Python<'py>, outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        let outcome = outcome?;
        if std::mem::replace(&mut self.begun, true) {
            return Ok(Next::Return(outcome));
        }
        let event_loop = asyncio::running_loop(py)?;
        let factory = Factory {
            callback: self.callback.clone_ref(py),
            limit: self.limit.as_ref().map(|limit| limit.clone_ref(py)),
            event_loop: event_loop.clone().unbind(),
        };
        let factory = Bound::new(py, factory)?.into_any();
        let arguments = std::iter::once(factory).chain(self.arguments.bind(py).iter()).collect::<Vec<_>>();
        event_loop.call_method(self.method, PyTuple::new(py, arguments)?, Some(self.keywords.bind(py))).map(Next::Await)
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.callback)?;
        visit.call(&self.arguments)?;
        visit.call(&self.keywords)?;
        visit.call(&self.limit)
    }
}

/// Makes the protocol of each connection of a server.
#[pyclass(frozen, module = "ferrio._ferrio")]
struct Factory {
    callback: Py<PyAny>,
    limit: Option<Py<PyAny>>,
    event_loop: Py<PyAny>,
}

#[pymethods]
impl Factory {
    fn __call__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, StreamReaderProtocol>> {
        let event_loop = self.event_loop.bind(py);
        let reader = StreamReader::create(py, self.limit.as_ref().map(|limit| limit.bind(py)), event_loop)?;
        StreamReaderProtocol::create(&reader, Some(self.callback.bind(py)), event_loop)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.callback)?;
        visit.call(&self.limit)?;
        visit.call(&self.event_loop)
    }
}

fn open<'py, const N: usize>(
    py: Python<'py>,
    function: &'static str,
    method: &'static str,
    names: [&'static str; N],
    arguments: &CallArguments<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let Arguments { own, limit, others } = Arguments::new(py, function, names, 0, arguments)?;
    let frame = Open {
        method,
        arguments: PyTuple::new(py, own)?.unbind(),
        keywords: others.unbind(),
        limit: limit.map(Bound::unbind),
        stage: Stage::Begins,
    };
    Coroutine::of(py, function, frame)
}

fn start<'py, const N: usize>(
    py: Python<'py>,
    function: &'static str,
    method: &'static str,
    names: [&'static str; N],
    arguments: &CallArguments<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let Arguments { own, limit, others } = Arguments::new(py, function, names, 1, arguments)?;
    let mut own = own.into_iter();
    let callback = own.next().flatten().unwrap_or_else(|| py.None().into_bound(py));
    let frame = Serve {
        method,
        callback: callback.unbind(),
        arguments: PyTuple::new(py, own.collect::<Vec<_>>())?.unbind(),
        keywords: others.unbind(),
        limit: limit.map(Bound::unbind),
        begun: false,
    };
    Coroutine::of(py, function, frame)
}

/// `open_connection`.
pub(super) struct OpenConnection;

impl AsyncFunction for OpenConnection {
    const NAME: &'static str = "open_connection";

    const PARAMETERS: &'static str = "(host=None, port=None, *, limit=65536, **kwds)";

    const DOC: &'static str = "Connects to a server; returns a StreamReader and a StreamWriter.\n\n\
        `limit` is the longest message, in bytes, that readuntil() and readline() return. The other keywords are those of\n\
        loop.create_connection(), and so are the exceptions.";

    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        open(py, Self::NAME, "create_connection", ["host", "port"], arguments)
    }
}

/// `open_unix_connection`.
pub(super) struct OpenUnixConnection;

impl AsyncFunction for OpenUnixConnection {
    const NAME: &'static str = "open_unix_connection";

    const PARAMETERS: &'static str = "(path=None, *, limit=65536, **kwds)";

    const DOC: &'static str = "Connects to a Unix socket; returns a StreamReader and a StreamWriter.\n\n\
        `limit` is as for open_connection(). The other keywords are those of loop.create_unix_connection().";

    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        open(py, Self::NAME, "create_unix_connection", ["path"], arguments)
    }
}

/// `start_server`.
pub(super) struct StartServer;

impl AsyncFunction for StartServer {
    const NAME: &'static str = "start_server";

    const PARAMETERS: &'static str = "(client_connected_cb, host=None, port=None, *, limit=65536, **kwds)";

    const DOC: &'static str = "Serves connections; returns the Server.\n\n\
        `client_connected_cb` is called with a StreamReader and a StreamWriter for each; the coroutine of a coroutine\n\
        function becomes a task. What it raises goes to the loop's exception handler, and closes the connection. `limit` is\n\
        as for open_connection(). The other keywords are those of loop.create_server(), and so are the exceptions.";

    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        start(py, Self::NAME, "create_server", ["client_connected_cb", "host", "port"], arguments)
    }
}

/// `start_unix_server`.
pub(super) struct StartUnixServer;

impl AsyncFunction for StartUnixServer {
    const NAME: &'static str = "start_unix_server";

    const PARAMETERS: &'static str = "(client_connected_cb, path=None, *, limit=65536, **kwds)";

    const DOC: &'static str = "Serves connections to a Unix socket; returns the Server.\n\n\
        The arguments are those of start_server(), and of loop.create_unix_server().";

    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        start(py, Self::NAME, "create_unix_server", ["client_connected_cb", "path"], arguments)
    }
}
