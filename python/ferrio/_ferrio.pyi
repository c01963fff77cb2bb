"""The extension module. What is public is in the package's `__init__`; nothing here is more public for being listed.

A class that stands for one of asyncio's derives from it here, as `isinstance` says at run time, and repeats only what
differs: what asyncio has on newer Pythons and ferrio on all.
"""

import asyncio
import socket
import sys
from asyncio import (
    all_tasks as all_tasks,
    create_subprocess_exec as create_subprocess_exec,
    create_subprocess_shell as create_subprocess_shell,
    current_task as current_task,
    ensure_future as ensure_future,
    gather as gather,
    iscoroutine as iscoroutine,
    iscoroutinefunction as iscoroutinefunction,
    isfuture as isfuture,
    open_connection as open_connection,
    open_unix_connection as open_unix_connection,
    run_coroutine_threadsafe as run_coroutine_threadsafe,
    shield as shield,
    start_server as start_server,
    start_unix_server as start_unix_server,
    to_thread as to_thread,
    wait as wait,
    wrap_future as wrap_future,
)
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Sequence
from concurrent.futures import Executor
from contextvars import Context
from dataclasses import dataclass
from os import PathLike
from ssl import SSLContext
from types import FrameType, GenericAlias
from typing import IO, Any, Generic, Literal, Protocol, Self, TextIO, TypeAlias, TypeVar, TypeVarTuple, final, overload

from _typeshed import SupportsWrite
from typing_extensions import Buffer, disjoint_base

_T = TypeVar("_T")
_ProtocolT = TypeVar("_ProtocolT", bound=asyncio.BaseProtocol)
_Ts = TypeVarTuple("_Ts")

_ErrorContext: TypeAlias = dict[str, Any]
_ExceptionHandler: TypeAlias = Callable[[asyncio.AbstractEventLoop, _ErrorContext], object]
_CoroutineLike: TypeAlias = Coroutine[Any, Any, _T] | Generator[Any, None, _T]
# A number, or an object with fileno().
_FileDescriptor: TypeAlias = Any
# What a socket's methods take and give: a tuple, or for Unix sockets a string or bytes.
_Address: TypeAlias = Any
_AddressInfo: TypeAlias = list[tuple[socket.AddressFamily, socket.SocketKind, int, str, _Address]]

# A part of a command line.
_Argument: TypeAlias = str | bytes | PathLike[str] | PathLike[bytes]

class _TaskFactory(Protocol):
    def __call__(self, loop: asyncio.AbstractEventLoop, factory: _CoroutineLike[_T], /) -> asyncio.Future[_T]: ...

__version__: str

@disjoint_base
class Future(asyncio.Future[_T]):
    def __init__(self, *, loop: asyncio.AbstractEventLoop | None = None) -> None: ...
    def __next__(self) -> Self: ...
    def send(self, _value: object) -> Self: ...
    def remove_done_callback(self, fn: Callable[[Self], object], /) -> int: ...
    def set_result(self, result: _T, /) -> None: ...
    def set_exception(self, exception: type | BaseException) -> None: ...
    @classmethod
    def __class_getitem__(cls, item: Any) -> GenericAlias: ...

@disjoint_base
class Task(asyncio.Task[_T]):
    def __init__(
        self,
        coro: _CoroutineLike[_T],
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        name: str | None = None,
        context: Context | None = None,
        eager_start: bool = False,
    ) -> None: ...
    def __next__(self) -> Self: ...
    def get_coro(self) -> Coroutine[Any, Any, _T] | None: ...
    def get_context(self) -> Context: ...
    def set_name(self, value: object) -> None: ...
    def print_stack(self, *, limit: int | None = None, file: TextIO | None = None) -> None: ...
    @classmethod
    def __class_getitem__(cls, item: Any) -> GenericAlias: ...

@disjoint_base
class Handle(asyncio.Handle):
    def __new__(
        cls,
        callback: Callable[..., object],
        args: Sequence[Any],
        loop: asyncio.AbstractEventLoop,
        context: Context | None = None,
    ) -> Self: ...
    def get_context(self) -> Context: ...

@disjoint_base
class TimerHandle(asyncio.TimerHandle):
    def __new__(
        cls,
        when: float,
        callback: Callable[..., object],
        args: Sequence[Any],
        loop: asyncio.AbstractEventLoop,
        context: Context | None = None,
    ) -> Self: ...
    def get_context(self) -> Context: ...

@disjoint_base
class EventLoop:
    slow_callback_duration: float
    def __del__(self) -> None: ...
    def __new__(cls, *args: Any, _stepped_clock: bool = False, **kwargs: Any) -> Self: ...
    # Running
    def run_forever(self) -> None: ...
    def run_until_complete(self, future: _CoroutineLike[_T] | Awaitable[_T]) -> _T: ...
    def stop(self) -> None: ...
    def is_running(self) -> bool: ...
    def is_closed(self) -> bool: ...
    def close(self) -> None: ...
    async def shutdown_asyncgens(self) -> None: ...
    async def shutdown_default_executor(self, timeout: float | None = None) -> None: ...
    # Callbacks
    def call_soon(
        self, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.Handle: ...
    def call_soon_threadsafe(
        self, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.Handle: ...
    def call_later(
        self, delay: float, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.TimerHandle: ...
    def call_at(
        self, when: float, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.TimerHandle: ...
    def time(self) -> float: ...
    # Futures and tasks
    def create_future(self) -> asyncio.Future[Any]: ...
    def create_task(
        self,
        coro: _CoroutineLike[_T],
        *,
        name: str | None = None,
        context: Context | None = None,
        eager_start: bool | None = None,
        **kwargs: Any,
    ) -> asyncio.Task[_T]: ...
    def set_task_factory(self, factory: _TaskFactory | None) -> None: ...
    def get_task_factory(self) -> _TaskFactory | None: ...
    # Connections and servers
    async def create_connection(
        self,
        protocol_factory: Callable[[], _ProtocolT],
        host: str | bytes | None = None,
        port: int | str | None = None,
        *,
        ssl: bool | SSLContext | None = None,
        family: int = 0,
        proto: int = 0,
        flags: int = 0,
        sock: socket.socket | None = None,
        local_addr: tuple[str, int] | None = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        happy_eyeballs_delay: float | None = None,
        interleave: int | None = None,
        all_errors: bool = False,
    ) -> tuple[asyncio.Transport, _ProtocolT]: ...
    async def create_server(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: str | Sequence[str] | None = None,
        port: int | str | None = None,
        *,
        family: int = 0,
        flags: int = 1,
        sock: socket.socket | None = None,
        backlog: int = 100,
        ssl: SSLContext | None = None,
        reuse_address: bool | None = None,
        reuse_port: bool | None = None,
        keep_alive: bool | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        start_serving: bool = True,
    ) -> asyncio.Server: ...
    async def connect_accepted_socket(
        self,
        protocol_factory: Callable[[], _ProtocolT],
        sock: socket.socket,
        *,
        ssl: SSLContext | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> tuple[asyncio.Transport, _ProtocolT]: ...
    async def create_unix_connection(
        self,
        protocol_factory: Callable[[], _ProtocolT],
        path: str | bytes | PathLike[str] | PathLike[bytes] | None = None,
        *,
        ssl: bool | SSLContext | None = None,
        sock: socket.socket | None = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> tuple[asyncio.Transport, _ProtocolT]: ...
    async def create_unix_server(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        path: str | bytes | PathLike[str] | PathLike[bytes] | None = None,
        *,
        sock: socket.socket | None = None,
        backlog: int = 100,
        ssl: SSLContext | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        start_serving: bool = True,
        cleanup_socket: bool = True,
    ) -> asyncio.Server: ...
    async def create_datagram_endpoint(
        self,
        protocol_factory: Callable[[], _ProtocolT],
        local_addr: tuple[str, int] | str | None = None,
        remote_addr: tuple[str, int] | str | None = None,
        *,
        family: int = 0,
        proto: int = 0,
        flags: int = 0,
        reuse_port: bool | None = None,
        allow_broadcast: bool | None = None,
        sock: socket.socket | None = None,
    ) -> tuple[asyncio.DatagramTransport, _ProtocolT]: ...
    # Pipes and subprocesses
    async def connect_read_pipe(
        self, protocol_factory: Callable[[], _ProtocolT], pipe: Any
    ) -> tuple[asyncio.ReadTransport, _ProtocolT]: ...
    async def connect_write_pipe(
        self, protocol_factory: Callable[[], _ProtocolT], pipe: Any
    ) -> tuple[asyncio.WriteTransport, _ProtocolT]: ...
    async def subprocess_exec(
        self,
        protocol_factory: Callable[[], _ProtocolT],
        program: _Argument,
        *args: _Argument,
        stdin: int | IO[Any] | None = -1,
        stdout: int | IO[Any] | None = -1,
        stderr: int | IO[Any] | None = -1,
        universal_newlines: Literal[False] = False,
        shell: Literal[False] = False,
        bufsize: Literal[0] = 0,
        encoding: None = None,
        errors: None = None,
        text: Literal[False] | None = None,
        **kwargs: Any,
    ) -> tuple[asyncio.SubprocessTransport, _ProtocolT]: ...
    async def subprocess_shell(
        self,
        protocol_factory: Callable[[], _ProtocolT],
        cmd: bytes | str,
        *,
        stdin: int | IO[Any] | None = -1,
        stdout: int | IO[Any] | None = -1,
        stderr: int | IO[Any] | None = -1,
        universal_newlines: Literal[False] = False,
        shell: Literal[True] = True,
        bufsize: Literal[0] = 0,
        encoding: None = None,
        errors: None = None,
        text: Literal[False] | None = None,
        **kwargs: Any,
    ) -> tuple[asyncio.SubprocessTransport, _ProtocolT]: ...
    # Threads
    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*_Ts], _T], *args: *_Ts
    ) -> asyncio.Future[_T]: ...
    def set_default_executor(self, executor: Executor) -> None: ...
    # Descriptors
    def add_reader(self, fd: _FileDescriptor, callback: Callable[[*_Ts], object], *args: *_Ts) -> None: ...
    def remove_reader(self, fd: _FileDescriptor) -> bool: ...
    def add_writer(self, fd: _FileDescriptor, callback: Callable[[*_Ts], object], *args: *_Ts) -> None: ...
    def remove_writer(self, fd: _FileDescriptor) -> bool: ...
    # Sockets
    async def sock_recv(self, sock: socket.socket, n: int) -> bytes: ...
    async def sock_recv_into(self, sock: socket.socket, buf: Buffer) -> int: ...
    async def sock_recvfrom(self, sock: socket.socket, bufsize: int) -> tuple[bytes, _Address]: ...
    async def sock_recvfrom_into(self, sock: socket.socket, buf: Buffer, nbytes: int = 0) -> tuple[int, _Address]: ...
    async def sock_sendall(self, sock: socket.socket, data: Buffer) -> None: ...
    async def sock_sendto(self, sock: socket.socket, data: Buffer, address: _Address) -> int: ...
    async def sock_connect(self, sock: socket.socket, address: _Address) -> None: ...
    async def sock_accept(self, sock: socket.socket) -> tuple[socket.socket, _Address]: ...
    async def sock_sendfile(
        self, sock: socket.socket, file: IO[bytes], offset: int = 0, count: int | None = None, *, fallback: bool = True
    ) -> int: ...
    async def sendfile(
        self,
        transport: asyncio.WriteTransport,
        file: IO[bytes],
        offset: int = 0,
        count: int | None = None,
        *,
        fallback: bool = True,
    ) -> int: ...
    # TLS
    async def start_tls(
        self,
        transport: asyncio.WriteTransport,
        protocol: asyncio.BaseProtocol,
        sslcontext: SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> asyncio.Transport: ...
    # Names
    async def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> _AddressInfo: ...
    async def getnameinfo(self, sockaddr: _Address, flags: int = 0) -> tuple[str, str]: ...
    # Signals
    def add_signal_handler(self, sig: int, callback: Callable[[*_Ts], object], *args: *_Ts) -> None: ...
    def remove_signal_handler(self, sig: int) -> bool: ...
    # Errors, debug mode
    def set_exception_handler(self, handler: _ExceptionHandler | None) -> None: ...
    def get_exception_handler(self) -> _ExceptionHandler | None: ...
    def default_exception_handler(self, context: _ErrorContext) -> None: ...
    def call_exception_handler(self, context: _ErrorContext) -> None: ...
    def get_debug(self) -> bool: ...
    def set_debug(self, enabled: bool) -> None: ...

@final
class SocketTransport(asyncio.Transport):
    def __del__(self) -> None: ...
    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

@final
class SSLTransport(asyncio.Transport):
    def __del__(self) -> None: ...
    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...
    def set_read_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...
    def get_read_buffer_limits(self) -> tuple[int, int]: ...
    def get_read_buffer_size(self) -> int: ...

@final
class TlsProtocol(asyncio.Protocol): ...

@final
class DatagramTransport(asyncio.DatagramTransport):
    def __del__(self) -> None: ...
    def is_reading(self) -> bool: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...
    def get_write_buffer_limits(self) -> tuple[int, int]: ...
    def get_write_buffer_size(self) -> int: ...

@final
class Server(asyncio.Server):
    def close_clients(self) -> None: ...
    def abort_clients(self) -> None: ...
    async def __aexit__(self, *_exc: object) -> None: ...

@final
class ReadPipeTransport(asyncio.ReadTransport):
    def __del__(self) -> None: ...

@final
class WritePipeTransport(asyncio.WriteTransport):
    def __del__(self) -> None: ...

@final
class SubprocessTransport(asyncio.SubprocessTransport):
    def __del__(self) -> None: ...

@disjoint_base
class Runner:
    def __init__(
        self, *, debug: bool | None = None, loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    ) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *_exc_info: object) -> None: ...
    def close(self) -> None: ...
    def get_loop(self) -> asyncio.AbstractEventLoop: ...
    def run(self, coro: Awaitable[_T], *, context: Context | None = None) -> _T: ...

def follow_policy(follow: bool) -> None: ...
def unfinished_tasks() -> list[asyncio.Task[Any]]: ...
def future_add_to_awaited_by(fut: object, waiter: object, /) -> None: ...
def future_discard_from_awaited_by(fut: object, waiter: object, /) -> None: ...
def run(
    main: Awaitable[_T],
    *,
    debug: bool | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> _T: ...
@overload
async def sleep(delay: float) -> None: ...
@overload
async def sleep(delay: float, result: _T) -> _T: ...

ALL_COMPLETED: str
FIRST_COMPLETED: str
FIRST_EXCEPTION: str

@disjoint_base
@final
class _GatheringFuture(asyncio.Future[list[Any]]):
    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...
    def cancel(self, msg: Any | None = None) -> bool: ...

@final
class _AsCompletedIterator(Generic[_T]):
    def __aiter__(self) -> Self: ...
    def __anext__(self) -> Coroutine[Any, Any, asyncio.Future[_T]]: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Coroutine[Any, Any, _T]: ...

def as_completed(fs: Iterable[Awaitable[_T]], *, timeout: float | None = None) -> _AsCompletedIterator[_T]: ...
def create_task(coro: _CoroutineLike[_T], **kwargs: Any) -> asyncio.Task[_T]: ...

class _EagerTaskFactory(Protocol):
    def __call__(
        self, loop: asyncio.AbstractEventLoop, coro: _CoroutineLike[_T], *, eager_start: bool = True, **kwargs: Any
    ) -> asyncio.Task[_T]: ...

def create_eager_task_factory(custom_task_constructor: Callable[..., asyncio.Task[Any]]) -> _EagerTaskFactory: ...

eager_task_factory: _EagerTaskFactory

@dataclass(frozen=True, slots=True)
class FrameCallGraphEntry:
    frame: FrameType

@dataclass(frozen=True, slots=True)
class FutureCallGraph:
    future: asyncio.Future[Any]
    call_stack: tuple[FrameCallGraphEntry, ...]
    awaited_by: tuple[FutureCallGraph, ...]

def capture_call_graph(
    future: asyncio.Future[Any] | None = None, /, *, depth: int = 1, limit: int | None = None
) -> FutureCallGraph | None: ...
def format_call_graph(
    future: asyncio.Future[Any] | None = None, /, *, depth: int = 1, limit: int | None = None
) -> str: ...
def print_call_graph(
    future: asyncio.Future[Any] | None = None,
    /,
    *,
    file: SupportsWrite[str] | None = None,
    depth: int = 1,
    limit: int | None = None,
) -> None: ...
def _new(cls: type[_T]) -> _T: ...

@disjoint_base
class Lock(asyncio.Lock):
    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...
    def __init__(self) -> None: ...

@disjoint_base
class Event(asyncio.Event):
    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...
    def __init__(self) -> None: ...

@disjoint_base
class Condition(asyncio.Condition):
    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...

@disjoint_base
class Semaphore(asyncio.Semaphore):
    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...

@disjoint_base
class BoundedSemaphore(asyncio.BoundedSemaphore):
    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...

@disjoint_base
class Barrier(asyncio.Barrier):
    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...

BrokenBarrierError = asyncio.BrokenBarrierError

@disjoint_base
class Queue(asyncio.Queue[_T]):
    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...
    def shutdown(self, immediate: bool = False) -> None: ...
    @classmethod
    def __class_getitem__(cls, item: Any) -> GenericAlias: ...

class LifoQueue(Queue[_T]):
    def __new__(cls, maxsize: int = 0) -> Self: ...

class PriorityQueue(Queue[_T]):
    def __new__(cls, maxsize: int = 0) -> Self: ...

@disjoint_base
class FlowControlMixin(asyncio.streams.FlowControlMixin):
    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...

@disjoint_base
class StreamReaderProtocol(asyncio.StreamReaderProtocol):
    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...

@disjoint_base
class StreamReader(asyncio.StreamReader):
    def __new__(cls, limit: int = 65536, loop: asyncio.AbstractEventLoop | None = None) -> Self: ...
    async def readuntil(self, separator: Buffer | tuple[Buffer, ...] = b"\n") -> bytes: ...

@disjoint_base
class StreamWriter(asyncio.StreamWriter):
    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...

@disjoint_base
class SubprocessStreamProtocol(asyncio.subprocess.SubprocessStreamProtocol):
    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...

@disjoint_base
class Process(asyncio.subprocess.Process):
    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...

QueueEmpty = asyncio.QueueEmpty
QueueFull = asyncio.QueueFull

if sys.version_info >= (3, 13):
    QueueShutDown = asyncio.QueueShutDown
else:
    class QueueShutDown(Exception): ...

@final
class Timeout(asyncio.Timeout):  # type: ignore[misc]
    def __new__(cls, when: float | None) -> Self: ...
    def when(self) -> float | None: ...
    def reschedule(self, when: float | None) -> None: ...
    def expired(self) -> bool: ...

def timeout(delay: float | None) -> Timeout: ...
def timeout_at(when: float | None) -> Timeout: ...

@disjoint_base
class TaskGroup(asyncio.TaskGroup):
    def __new__(cls, *_args: object, **_kwargs: object) -> Self: ...
    def cancel(self) -> None: ...

async def wait_for(fut: Awaitable[_T], timeout: float | None) -> _T: ...
