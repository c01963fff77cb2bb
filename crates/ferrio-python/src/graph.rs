//! Who waits for whom, as `asyncio.graph` tells it.
//!
//! Coroutines of ours show a frame with the function's name, and are passed through, so that what they await is found
//! behind them.

use std::ffi::CStr;
use std::fmt::Write;

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyString, PyTuple, PyType};
use pyo3::{intern, wrap_pyfunction};

use crate::asyncio;
use crate::ffi::method::{self, CallArguments, FastFunction};
use crate::ffi::recursion::deeper;
use crate::futures::{Future, awaited_by};
use crate::tasks::Task;

/// `future_add_to_awaited_by`.
struct Add;

impl FastFunction for Add {
    const NAME: &'static CStr = c"future_add_to_awaited_by";

    const DOC: &'static CStr = c"future_add_to_awaited_by(fut, waiter, /)\n--\n\n\
        Records that `fut` is awaited by `waiter` (asyncio 3.14). Does nothing if one of them is no future.";

    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let [future, waiter] = arguments.positional("future_add_to_awaited_by")?;
        awaited_by::add(&future, &waiter)?;
        Ok(py.None().into_bound(py))
    }
}

/// `future_discard_from_awaited_by`.
struct Discard;

impl FastFunction for Discard {
    const NAME: &'static CStr = c"future_discard_from_awaited_by";

    const DOC: &'static CStr = c"future_discard_from_awaited_by(fut, waiter, /)\n--\n\n\
        Takes back what `future_add_to_awaited_by(fut, waiter)` recorded (asyncio 3.14).";

    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let [future, waiter] = arguments.positional("future_discard_from_awaited_by")?;
        awaited_by::discard(&future, &waiter)?;
        Ok(py.None().into_bound(py))
    }
}

/// The call graph of `future`, or of the current task: its frames, and in turn those of everything that awaits it
/// (asyncio 3.14). None if there is no current task.
///
/// `depth` frames less one are left out at the top of the current task's stack. At most `limit` frames of each stack
/// are captured: the innermost ones, or the outermost if it is negative.
///
/// Raises RuntimeError outside of a running loop if no future is given, TypeError if it is none.
#[pyfunction]
#[pyo3(signature = (future=None, /, *, depth=1, limit=None))]
pub(crate) fn capture_call_graph<'py>(
    py: Python<'py>,
    future: Option<Bound<'py, PyAny>>,
    depth: isize,
    limit: Option<isize>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let running = asyncio::get_running_loop_or_none(py)?.call0()?;
    let current = if running.is_none() { None } else { Some(current_task(&running)?).filter(|task| !task.is_none()) };
    let Some(task) = (match future {
        Some(future) if current.as_ref().is_none_or(|current| !current.is(&future)) => {
            return graph_of(&future, limit).map(Some);
        }
        Some(future) => Some(future),
        None if running.is_none() => {
            let text = "capture_call_graph() is called outside of a running event loop and no *future* to introspect \
                        was provided";
            return Err(PyRuntimeError::new_err(text));
        }
        None => current,
    }) else {
        return Ok(None);
    };
    check_future(&task)?;
    let stack = current_stack(py, depth, limit)?;
    node(&task, stack, limit).map(Some)
}

/// The call graph of `future`, or of the current task, as text (asyncio 3.14).
#[pyfunction]
#[pyo3(signature = (future=None, /, *, depth=1, limit=None))]
pub(crate) fn format_call_graph(
    py: Python<'_>,
    future: Option<Bound<'_, PyAny>>,
    depth: isize,
    limit: Option<isize>,
) -> PyResult<String> {
    let mut lines = Vec::new();
    if let Some(graph) = capture_call_graph(py, future, depth, limit)? {
        render(&graph, 0, &mut lines)?;
    }
    Ok(lines.join("\n"))
}

/// Prints the call graph of `future`, or of the current task, to `file` or the standard output (asyncio 3.14).
#[pyfunction]
#[pyo3(signature = (future=None, /, *, file=None, depth=1, limit=None))]
pub(crate) fn print_call_graph(
    py: Python<'_>,
    future: Option<Bound<'_, PyAny>>,
    file: Option<Bound<'_, PyAny>>,
    depth: isize,
    limit: Option<isize>,
) -> PyResult<()> {
    let text = format_call_graph(py, future, depth, limit)?;
    let keywords = PyDict::new(py);
    keywords.set_item("file", file)?;
    asyncio::module(py, "builtins")?.call_method("print", (text,), Some(&keywords)).map(drop)
}

/// What `asyncio.tasks` has by that name now: debuggers and tests put the pure Python one there.
fn in_force<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    asyncio::module(py, "asyncio.tasks")?.getattr(name)
}

fn current_task<'py>(event_loop: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    in_force(event_loop.py(), "current_task")?.call1((event_loop,))
}

/// # Errors
///
/// `TypeError`, with asyncio's text, if it is no future.
fn check_future(object: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = object.py();
    if object.cast::<Future>().is_ok()
        || object.is_instance(&asyncio::module(py, "asyncio.futures")?.getattr("Future")?)?
    {
        return Ok(());
    }
    let text = "object does not appear to be compatible with asyncio.Future";
    Err(PyTypeError::new_err(format!("{} {text}", object.repr()?)))
}

/// The graph of a future that is not the current task.
fn graph_of<'py>(future: &Bound<'py, PyAny>, limit: Option<isize>) -> PyResult<Bound<'py, PyAny>> {
    check_future(future)?;
    let mut frames = if limit == Some(0) { Vec::new() } else { suspended_stack(future)? };
    match limit {
        Some(limit) if limit >= 0 => frames.truncate(limit.unsigned_abs()),
        Some(limit) => keep_last(&mut frames, limit.unsigned_abs()),
        None => {}
    }
    frames.reverse();
    node(future, frames, limit)
}

fn keep_last<T>(items: &mut Vec<T>, count: usize) {
    items.drain(..items.len().saturating_sub(count));
}

/// A node of the graph: the future, its frames, and the graphs of those that await it.
fn node<'py>(
    future: &Bound<'py, PyAny>,
    frames: Vec<Bound<'py, PyAny>>,
    limit: Option<isize>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = future.py();
    let mut parents = Vec::new();
    if let Some(awaiters) = future.getattr_opt(intern!(py, "_asyncio_awaited_by"))?
        && awaiters.is_truthy()?
    {
        for awaiter in awaiters.try_iter()? {
            let awaiter = awaiter?;
            parents.push(deeper(py, || graph_of(&awaiter, limit))?);
        }
    }
    let entry = frame_entry_class(py)?;
    let entries = frames.into_iter().map(|frame| entry.call1((frame,))).collect::<PyResult<Vec<_>>>()?;
    future_graph_class(py)?.call1((future, PyTuple::new(py, entries)?, PyTuple::new(py, parents)?))
}

/// The frames of a task that is suspended, the outermost first.
fn suspended_stack<'py>(future: &Bound<'py, PyAny>) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let py = future.py();
    let mut frames = Vec::new();
    let Some(get_coro) = future.getattr_opt(intern!(py, "get_coro"))? else { return Ok(frames) };
    let mut next = Some(get_coro.call0()?);
    while let Some(coroutine) = next.take().filter(|coroutine| !coroutine.is_none()) {
        for (awaited, frame) in [("cr_await", "cr_frame"), ("ag_await", "ag_frame")] {
            let Some(awaited) = coroutine.getattr_opt(awaited)? else { continue };
            let frame = coroutine.getattr(frame)?;
            if !frame.is_none() {
                frames.push(frame);
            }
            next = Some(awaited);
            break;
        }
    }
    Ok(frames)
}

/// The frames of the task that runs, the innermost first.
fn current_stack(py: Python<'_>, depth: isize, limit: Option<isize>) -> PyResult<Vec<Bound<'_, PyAny>>> {
    let mut frames = Vec::new();
    if limit == Some(0) {
        return Ok(frames);
    }
    // asyncio counts from the frame of its own function; here the caller's is the innermost there is.
    let innermost =
        asyncio::module(py, "sys")?.call_method1(intern!(py, "_getframe"), (depth.saturating_sub(1).max(0),))?;
    let mut next = Some(innermost);
    while let Some(frame) = next.take().filter(|frame| !frame.is_none()) {
        let back = frame.getattr(intern!(py, "f_back"))?;
        let is_async = matches!(Kind::of(&frame)?, Kind::Coroutine | Kind::AsyncGenerator);
        frames.push(frame);
        // What resumes the outermost coroutine is the task, and what is behind it runs the loop.
        if !(is_async && !back.is_none() && Kind::of(&back)? == Kind::Function) {
            next = Some(back);
        }
    }
    match limit {
        Some(limit) if limit > 0 => keep_last(&mut frames, limit.unsigned_abs()),
        Some(limit) => frames.truncate(limit.unsigned_abs()),
        None => {}
    }
    Ok(frames)
}

/// What a frame belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Function,
    Coroutine,
    AsyncGenerator,
    Generator,
}

impl Kind {
    /// By the code, which says it on every Python; frames say it from 3.14 on.
    fn of(frame: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = frame.py();
        let flags: u32 = frame.getattr(intern!(py, "f_code"))?.getattr(intern!(py, "co_flags"))?.extract()?;
        // The values of inspect.CO_COROUTINE, CO_ASYNC_GENERATOR and CO_GENERATOR, which the language has fixed.
        Ok(match flags {
            flags if flags & 0x80 != 0 => Self::Coroutine,
            flags if flags & 0x200 != 0 => Self::AsyncGenerator,
            flags if flags & 0x20 != 0 => Self::Generator,
            _ => Self::Function,
        })
    }

    fn tag(self) -> &'static str {
        match self {
            Self::Function => "",
            Self::Coroutine => "async ",
            Self::AsyncGenerator => "async generator ",
            Self::Generator => "generator ",
        }
    }
}

/// Appends the lines of a graph, and of those behind it one level further in.
fn render(graph: &Bound<'_, PyAny>, level: usize, lines: &mut Vec<String>) -> PyResult<()> {
    let py = graph.py();
    let indent = "    ".repeat(level);
    let future = graph.getattr(intern!(py, "future"))?;
    let address = format!("{:#x}", future.as_ptr() as usize);
    if future.cast::<Task>().is_ok() || future.is_instance(&in_force(py, "Task")?)? {
        let name = future.call_method0(intern!(py, "get_name"))?.repr()?;
        lines.push(format!("{indent}* Task(name={name}, id={address})"));
    } else {
        lines.push(format!("{indent}* Future(id={address})"));
    }
    let stack = graph.getattr(intern!(py, "call_stack"))?;
    if stack.is_truthy()? {
        lines.push(format!("{indent}  + Call stack:"));
    }
    for entry in stack.try_iter()? {
        let frame = entry?.getattr(intern!(py, "frame"))?;
        let code = frame.getattr(intern!(py, "f_code"))?;
        let file = code.getattr(intern!(py, "co_filename"))?.repr()?;
        let line = frame.getattr(intern!(py, "f_lineno"))?;
        let name = code.getattr(intern!(py, "co_qualname"))?;
        let mut text = format!("{indent}  |   File {file}, line {line}, in ");
        write!(text, "{}{name}()", Kind::of(&frame)?.tag()).map_err(|_| PyRuntimeError::new_err("out of memory"))?;
        lines.push(text);
    }
    let parents = graph.getattr(intern!(py, "awaited_by"))?;
    if parents.is_truthy()? {
        lines.push(format!("{indent}  + Awaited by:"));
    }
    for parent in parents.try_iter()? {
        let parent = parent?;
        deeper(py, || render(&parent, level + 1, lines))?;
    }
    Ok(())
}

/// `FrameCallGraphEntry`: asyncio's own class where it has one.
fn frame_entry_class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CELL: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CELL.get_or_try_init(py, || dataclass(py, "FrameCallGraphEntry", &["frame"])).map(|class| class.bind(py))
}

/// `FutureCallGraph`: asyncio's own class where it has one.
fn future_graph_class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CELL: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let fields = ["future", "call_stack", "awaited_by"];
    CELL.get_or_try_init(py, || dataclass(py, "FutureCallGraph", &fields)).map(|class| class.bind(py))
}

/// The class of that name, which programs take apart with `dataclasses` and by pattern matching.
fn dataclass(py: Python<'_>, name: &str, fields: &[&str]) -> PyResult<Py<PyType>> {
    if let Ok(class) = asyncio::module(py, "asyncio").and_then(|asyncio| asyncio.getattr(name)) {
        return Ok(class.cast_into::<PyType>()?.unbind());
    }
    let keywords = PyDict::new(py);
    keywords.set_item("frozen", true)?;
    keywords.set_item("slots", true)?;
    let fields = PyList::new(py, fields)?;
    let class = asyncio::module(py, "dataclasses")?.call_method("make_dataclass", (name, fields), Some(&keywords))?;
    class.setattr("__module__", PyString::new(py, "ferrio"))?;
    Ok(class.cast_into::<PyType>()?.unbind())
}

/// Adds asyncio's names on the call graph.
pub(crate) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add("FrameCallGraphEntry", frame_entry_class(py)?)?;
    module.add("FutureCallGraph", future_graph_class(py)?)?;
    for function in [
        wrap_pyfunction!(capture_call_graph, module)?,
        wrap_pyfunction!(format_call_graph, module)?,
        wrap_pyfunction!(print_call_graph, module)?,
    ] {
        module.add_function(function)?;
    }
    method::add_function::<Add>(module)?;
    method::add_function::<Discard>(module)
}
