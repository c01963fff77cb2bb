//! What the extension takes from the standard library, each name imported once, when it is first needed.
//!
//! ferrio's objects raise asyncio's own exceptions and format themselves with asyncio's own helpers, so that a program
//! that mixes both sees one set of names.

use pyo3::exceptions::{PyKeyboardInterrupt, PyResourceWarning, PySystemExit};
use pyo3::intern;
use pyo3::panic::PanicException;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyType};

use crate::ffi::call::call0;
use crate::ffi::staying::stay;

/// Declares `fn name(py) -> PyResult<&Bound<PyAny>>` for an attribute of a module.
macro_rules! imported {
    ($($(#[$doc:meta])* $name:ident = $module:literal . $attribute:literal;)*) => {
        /// All of them, each behind the module that it is of.
        const IMPORTED: &[(&str, Import)] = &[$(($module, $name),)*];

        $(
        $(#[$doc])*
        pub(crate) fn $name(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
            static CELL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
            CELL.get_or_try_init(py, || Ok(py.import($module)?.getattr($attribute)?.unbind())).map(|name| name.bind(py))
        }
    )*};
}

type Import = for<'py> fn(Python<'py>) -> PyResult<&'py Bound<'py, PyAny>>;

imported! {
    handle_class = "asyncio.events"."Handle";
    timer_handle_class = "asyncio.events"."TimerHandle";
    future_class = "asyncio.futures"."Future";
    task_class = "asyncio.tasks"."Task";
    timeout_class = "asyncio.timeouts"."Timeout";
    task_group_class = "asyncio.taskgroups"."TaskGroup";
    get_event_loop = "asyncio.events"."get_event_loop";
    get_running_loop = "asyncio.events"."get_running_loop";
    set_running_loop = "asyncio.events"."_set_running_loop";
    get_running_loop_or_none = "asyncio.events"."_get_running_loop";
    iscoroutine = "asyncio.coroutines"."iscoroutine";
    extract_stack = "asyncio.format_helpers"."extract_stack";
    format_callback_source = "asyncio.format_helpers"."_format_callback_source";
    future_repr = "asyncio.base_futures"."_future_repr";
    future_repr_info = "asyncio.base_futures"."_future_repr_info";
    task_repr = "asyncio.base_tasks"."_task_repr";
    task_get_stack = "asyncio.base_tasks"."_task_get_stack";
    task_print_stack = "asyncio.base_tasks"."_task_print_stack";
    format_traceback = "traceback"."format_list";
    is_finalizing = "sys"."is_finalizing";
    logger = "asyncio.log"."logger";
    gathering_future_class = "asyncio.tasks"."_GatheringFuture";
    current_task = "asyncio.tasks"."current_task";
    all_tasks = "asyncio.tasks"."all_tasks";
    native_coroutine_class = "types"."CoroutineType";
    coroutine_class = "collections.abc"."Coroutine";
    awaitable_class = "collections.abc"."Awaitable";
    concurrent_future_class = "concurrent.futures"."Future";
    concurrent_cancelled_error = "concurrent.futures"."CancelledError";
    concurrent_invalid_state_error = "concurrent.futures"."InvalidStateError";
    partial = "functools"."partial";
    generic_alias = "types"."GenericAlias";
    register_task = "asyncio.tasks"."_register_task";
    unregister_task = "asyncio.tasks"."_unregister_task";
    ipaddr_info = "asyncio.base_events"."_ipaddr_info";
    check_ssl_socket = "asyncio.base_events"."_check_ssl_socket";
    socket_class = "socket"."socket";
    memory_bio_class = "ssl"."MemoryBIO";
    ssl_context_class = "ssl"."SSLContext";
    ssl_object_class = "ssl"."SSLObject";
    ssl_error = "ssl"."SSLError";
    ssl_want_read_error = "ssl"."SSLWantReadError";
    ssl_syscall_error = "ssl"."SSLSyscallError";
    ssl_eof_error = "ssl"."SSLEOFError";
    ssl_zero_return_error = "ssl"."SSLZeroReturnError";
    ssl_certificate_error = "ssl"."SSLCertVerificationError";
    base_socket_class = "_socket"."socket";
    /// The only class that is both a `Transport` and a `DatagramTransport`, as tests of the transport ask.
    datagram_transport_class = "asyncio.selector_events"."_SelectorDatagramTransport";
    transport_class = "asyncio.transports"."Transport";
    read_transport_class = "asyncio.transports"."ReadTransport";
    subprocess_transport_class = "asyncio.transports"."SubprocessTransport";
    stream_reader_protocol_class = "asyncio.streams"."StreamReaderProtocol";
    tls_transport_class = "asyncio.sslproto"."_SSLProtocolTransport";
    protocol_class = "asyncio.protocols"."Protocol";
    buffered_protocol_class = "asyncio.protocols"."BufferedProtocol";
    server_class = "asyncio.base_events"."Server";
    transport_socket_class = "asyncio.trsock"."TransportSocket";
    sendfile_mode = "asyncio.constants"."_SendfileMode";
    current_python_tasks = "asyncio.tasks"."_current_tasks";
    deque = "collections"."deque";
    heappush = "heapq"."heappush";
    heappop = "heapq"."heappop";
    lock_class = "asyncio.locks"."Lock";
    event_class = "asyncio.locks"."Event";
    condition_class = "asyncio.locks"."Condition";
    semaphore_class = "asyncio.locks"."Semaphore";
    bounded_semaphore_class = "asyncio.locks"."BoundedSemaphore";
    barrier_class = "asyncio.locks"."Barrier";
    queue_class = "asyncio.queues"."Queue";
    lifo_queue_class = "asyncio.queues"."LifoQueue";
    priority_queue_class = "asyncio.queues"."PriorityQueue";
    stream_reader_class = "asyncio.streams"."StreamReader";
    stream_writer_class = "asyncio.streams"."StreamWriter";
    flow_control_class = "asyncio.streams"."FlowControlMixin";
    process_class = "asyncio.subprocess"."Process";
    subprocess_stream_protocol_class = "asyncio.subprocess"."SubprocessStreamProtocol";
    enter_task = "asyncio.tasks"."_enter_task";
    leave_task = "asyncio.tasks"."_leave_task";
    warn = "warnings"."warn";
    warn_unawaited_coroutine = "warnings"."_warn_unawaited_coroutine";
}

/// Modules that are asked for attributes when these are needed, as programs put others there.
const MODULES: &[&str] = &[
    "_socket",
    "asyncio",
    "asyncio.base_events",
    "asyncio.coroutines",
    "asyncio.events",
    "asyncio.futures",
    "asyncio.queues",
    "asyncio.runners",
    "asyncio.tasks",
    "asyncio.unix_events",
    "builtins",
    "concurrent.futures",
    "ferrio",
    "ferrio._ferrio",
    "inspect",
    "io",
    "os",
    "ssl",
    "sys",
    "warnings",
    "weakref",
];

static REMEMBERED: PyOnceLock<Py<PyDict>> = PyOnceLock::new();

/// The module of that name. While the interpreter goes, when objects are finalized whose `__del__` may use a loop,
/// nothing can be imported any more, and it is the one that there was.
///
/// # Errors
///
/// `ImportError` if there is none.
pub(crate) fn module<'py>(py: Python<'py>, name: &'static str) -> PyResult<Bound<'py, PyModule>> {
    py.import(name).or_else(|error| remembered(py, name).ok_or(error))
}

/// A module that asyncio's own module `user` uses, as that has it. Who replaces what the system's modules are made of,
/// as eventlet does with sockets and threads, hands asyncio the originals so; tests hand it their doubles.
///
/// # Errors
///
/// `AttributeError` if it has none.
pub(crate) fn module_used_by<'py>(user: &'static str, name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
    module(name.py(), user)?.getattr(name)
}

/// The module `socket` as the loops of asyncio have it; what is taken from it is looked up for every call, as programs
/// replace it.
///
/// # Errors
///
/// `AttributeError` if they have none.
pub(crate) fn socket_module(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    module_used_by("asyncio.base_events", intern!(py, "socket"))
}

#[cold]
fn remembered<'py>(py: Python<'py>, name: &'static str) -> Option<Bound<'py, PyModule>> {
    REMEMBERED.get(py)?.bind(py).get_item(name).ok().flatten()?.cast_into().ok()
}

/// The running loop of this thread.
///
/// # Errors
///
/// `RuntimeError` if there is none.
pub(crate) fn running_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let own = get_running_loop(py)?;
    call0(own).or_else(|error| match replaced(own, intern!(py, "get_running_loop"))? {
        Some(get_running_loop) => get_running_loop.call0(),
        None => Err(error),
    })
}

/// The same; None, the Python object, if there is none.
pub(crate) fn running_loop_or_none(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let own = get_running_loop_or_none(py)?;
    let running = call0(own)?;
    match running.is_none().then(|| replaced(own, intern!(py, "_get_running_loop"))).transpose()?.flatten() {
        Some(get_running_loop) => get_running_loop.call0(),
        None => Ok(running),
    }
}

/// What a program has put in the place of a function of `asyncio.events`. Who lets asyncio's objects work in a
/// framework of another kind, as trio-asyncio does, tells by it which loop runs there; the interpreter knows of none.
#[cold]
fn replaced<'py>(own: &Bound<'py, PyAny>, name: &Bound<'py, PyString>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let now = module(own.py(), "asyncio.events")?.getattr(name)?;
    Ok(Some(now).filter(|now| !now.is(own)))
}

/// Imports everything: programs put other things in the place of what ours stands for, and what is called while the
/// interpreter goes imports nothing any more. asyncio has loaded all these modules.
///
/// # Errors
///
/// If one is missing. An interpreter without OpenSSL has no `ssl`, and finds that out when it is asked for TLS.
pub(crate) fn remember(py: Python<'_>) -> PyResult<()> {
    for (module, import) in IMPORTED {
        match import(py) {
            Ok(_) => {}
            Err(_) if matches!(*module, "ssl" | "asyncio.sslproto") => {}
            Err(error) => return Err(error),
        }
    }
    EXCEPTIONS.iter().try_for_each(|class| class(py).map(drop))?;
    let modules = REMEMBERED.get_or_init(py, || PyDict::new(py).unbind()).bind(py);
    for name in MODULES {
        match py.import(*name) {
            Ok(module) => modules.set_item(name, module)?,
            Err(_) if *name == "ssl" => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Declares an exception class of asyncio: `name::new_err`, `name::is`.
macro_rules! exceptions {
    ($($name:ident = $module:literal . $attribute:literal;)*) => {
        /// All of them.
        const EXCEPTIONS: &[for<'py> fn(Python<'py>) -> PyResult<&'py Bound<'py, PyType>>] = &[$($name::class,)*];

        $(
        pub(crate) mod $name {
            use super::*;

            /// The class.
            pub(crate) fn class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
                static CELL: PyOnceLock<Py<PyType>> = PyOnceLock::new();
                CELL.import(py, $module, $attribute)
            }

            /// An exception of the class.
            #[allow(dead_code, reason = "one of the three functions that each class has")]
            pub(crate) fn new_err(py: Python<'_>, arguments: impl pyo3::PyErrArguments + 'static) -> PyErr {
                match class(py) {
                    Ok(class) => PyErr::from_type(class.clone(), arguments),
                    Err(error) => error,
                }
            }

            /// Whether `exception` is of the class.
            #[allow(dead_code, reason = "one of the three functions that each class has")]
            pub(crate) fn is(exception: &Bound<'_, PyAny>) -> bool {
                class(exception.py()).is_ok_and(|class| exception.is_instance(class).unwrap_or(false))
            }
        }
    )*};
}

exceptions! {
    cancelled_error = "asyncio.exceptions"."CancelledError";
    broken_barrier_error = "asyncio.exceptions"."BrokenBarrierError";
    sendfile_not_available_error = "asyncio.exceptions"."SendfileNotAvailableError";
    queue_empty = "asyncio.queues"."QueueEmpty";
    queue_full = "asyncio.queues"."QueueFull";
    invalid_state_error = "asyncio.exceptions"."InvalidStateError";
    incomplete_read_error = "asyncio.exceptions"."IncompleteReadError";
    limit_overrun_error = "asyncio.exceptions"."LimitOverrunError";
}

/// Where the Python code stands that called us, for what debug mode shows of the making of an object.
pub(crate) fn stack_here(py: Python<'_>) -> PyResult<Py<PyAny>> {
    // On whatever thread something is scheduled.
    stay();
    // There is no frame where a thread that has none calls.
    let frame = module(py, "sys")?.call_method1("_getframe", (0,)).ok();
    extract_stack(py)?.call1((frame,)).map(Bound::unbind)
}

/// Warns, with a ResourceWarning, of `source`.
///
/// # Errors
///
/// The warning, where warnings are errors.
pub(crate) fn warn_of(source: &Bound<'_, PyAny>, text: &str) -> PyResult<()> {
    let py = source.py();
    let keywords = PyDict::new(py);
    keywords.set_item(intern!(py, "source"), source)?;
    warn(py)?.call((text, py.get_type::<PyResourceWarning>()), Some(&keywords)).map(drop)
}

/// The exception that `error` stands for, with its traceback: before Python 3.12 that is kept apart while an exception
/// is on its way, and `PyErr::value` does not bring the two together.
pub(crate) fn exception_of<'py>(py: Python<'py>, error: &PyErr) -> Bound<'py, PyAny> {
    error.clone_ref(py).into_value(py).into_bound(py).into_any()
}

/// Whether `error` is an `ssl.SSLError`.
pub(crate) fn is_ssl_error(py: Python<'_>, error: &PyErr) -> bool {
    ssl_error(py).is_ok_and(|class| error.matches(py, class).unwrap_or(false))
}

/// Whether `error` says that a certificate is not to be trusted.
pub(crate) fn is_certificate_error(py: Python<'_>, error: &PyErr) -> bool {
    ssl_certificate_error(py).is_ok_and(|class| error.matches(py, class).unwrap_or(false))
}

/// Whether `error` leaves a loop at once: `KeyboardInterrupt`, `SystemExit`, or a panic.
pub(crate) fn leaves_the_loop(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyKeyboardInterrupt>(py)
        || error.is_instance_of::<PySystemExit>(py)
        || error.is_instance_of::<PanicException>(py)
}
