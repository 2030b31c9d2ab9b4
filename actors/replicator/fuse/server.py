"""Threads that read requests from the kernel, have them handled, and answer.

Nothing a handler does ends a thread: an OSError is the answer, any other exception is reported
and answered with EIO. A thread about to wait (frozen gate, disk flush) starts another one
first if none is idle, so that readers are served on; surplus threads end by themselves. An
answer that has to wait for the secondary holds no thread at all.
"""

import errno
import os
import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Final

from mirrorfarm.actors.replicator import libc
from mirrorfarm.actors.replicator.fuse import protocol
from mirrorfarm.actors.replicator.fuse.protocol import Deferred, Reply, Request
from mirrorfarm.actors.replicator.journal import Journal

Handler = Callable[[Request], Reply]
Report = Callable[[str], None]

THREADS_MAX: Final = 32
_TRY_AGAIN: Final = (errno.ENOENT, errno.EINTR, errno.EAGAIN)
_GONE: Final = (errno.ENOENT, errno.ENODEV, errno.EPERM, errno.ENOTCONN, errno.ECONNABORTED)
_SILENT: Final = (protocol.FORGET, protocol.BATCH_FORGET, protocol.INTERRUPT)


class Server:
    """Serves one mount until the kernel says that it is gone."""

    def __init__(
        self,
        device_fd: int,
        handlers: Mapping[int, Handler],
        journal: Journal,
        threads: int,
        report: Report,
    ) -> None:
        self._device_fd = device_fd
        self._handlers = handlers
        self._journal = journal
        self._wanted = threads
        self._report = report
        self._lock = threading.Lock()
        self._ended = threading.Condition(self._lock)
        self._threads = 0
        self._idle = 0
        self._holders = 1  # Of the descriptor: threads, waiting answers, and the owner.
        self.ready = threading.Event()  # The kernel's INIT was answered.
        self.faults = 0  # Exceptions that were not an answer.

    def start(self) -> None:
        """Start the threads."""
        with self._lock:
            for _ in range(self._wanted):
                self._spawn()

    def stop(self, timeout_s: float) -> bool:
        """Wait for the threads to end, which they do when the mount is gone or aborted."""
        with self._lock:
            return self._ended.wait_for(lambda: self._threads == 0, timeout_s)

    def close(self) -> None:
        """Close the device as soon as no thread and no waiting answer needs it."""
        self._release()

    def about_to_wait(self) -> None:
        """Keep somebody at the door while this thread waits."""
        with self._lock:
            if self._idle == 0 and self._threads < THREADS_MAX:
                with suppress(RuntimeError):  # The system has no thread to give: it goes without.
                    self._spawn()

    def _spawn(self) -> None:
        """Start a thread; the lock is held, so that it counts when it looks."""
        threading.Thread(target=self._run, name="fuse", daemon=True).start()
        self._threads += 1
        self._holders += 1

    def _run(self) -> None:
        try:
            libc.detach_thread_umask()
            libc.keep_thread_capabilities()
            request = Request()
            while self._wait(request):
                self._handle(request, self._handlers.get(request.operation))
        except Exception:  # The thread's end must be told, whatever it was.
            self._fault("server thread")
        finally:
            with self._lock:
                self._threads -= 1
                self._ended.notify_all()
            self._release()

    def _wait(self, request: Request) -> bool:
        """Wait for a request; False: this thread shall end, and is not counted as idle."""
        with self._lock:
            if self._idle >= self._wanted:
                return False  # Enough others wait.
            self._idle += 1
        while True:
            try:
                os.readv(self._device_fd, [request.buffer])
            except OSError as fault:
                if fault.errno in _TRY_AGAIN:
                    continue
                served = False  # ENODEV: unmounted or aborted.
            else:
                served = True
            with self._lock:
                self._idle -= 1
            if served:
                request.parse()
            return served

    def _handle(self, request: Request, handler: Handler | None) -> None:
        unique = request.unique
        try:
            if handler is None:
                reply: Reply = None
                error = 0 if request.operation in _SILENT else errno.ENOSYS
            else:
                reply, error = handler(request), 0
        except OSError as fault:
            reply, error = None, fault.errno or errno.EIO
        except Exception:  # A fault of ours costs one request, not the mount.
            self._fault(f"request {request.operation}")
            reply, error = None, errno.EIO
        if request.operation in _SILENT:
            return
        if isinstance(reply, Deferred):
            self._defer(unique, reply)
        else:
            self._send(unique, error, reply)
        if request.operation == protocol.INIT:
            self.ready.set()

    def _defer(self, unique: int, reply: Deferred) -> None:
        with self._lock:
            self._holders += 1
        try:
            self._journal.when_safe(reply.ticket, partial(self._answer, unique, reply.body))
        except Exception:  # It promised not to.
            self._fault("journal")
            self._answer(unique, None, errno.EIO)

    def _answer(self, unique: int, body: bytes | None, error: int) -> None:
        self._send(unique, error, None if error else body)
        self._release()

    def _send(self, unique: int, error: int, body: bytes | memoryview | None) -> None:
        try:
            if body is None:
                os.write(self._device_fd, protocol.OUT_HEADER.pack(16, -error, unique))
            else:
                header = protocol.OUT_HEADER.pack(16 + len(body), 0, unique)
                os.writev(self._device_fd, (header, body))
        except OSError as fault:
            if fault.errno in _GONE:
                return  # Nobody waits for it any more.
            self._fault(f"answer of {0 if body is None else len(body)} bytes")
            if body is not None:
                self._send(unique, errno.EIO, None)

    def _fault(self, what: str) -> None:
        self.faults += 1
        try:
            self._report(f"file system: {what}: {traceback.format_exc(limit=-3)}")
        except Exception:  # Not even a failing log ends a thread.
            self.faults += 1

    def _release(self) -> None:
        with self._lock:
            self._holders -= 1
            if self._holders == 0:
                os.close(self._device_fd)
