"""The sockets of a bus: who is connected, and by which socket a frame leaves.

A `Hub` is the bus of one node (or of a witness). Each network of the node has a CURVE ROUTER
that peers connect to; each peer and witness has, per network, a CURVE DEALER that pins its key.
Processes of the node attach to a ROUTER on ipc, whose frames are preceded by one part with the
name of a network. What a frame may say is decided by `mirrorfarm.transport.link.core`.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import zmq
from zmq.utils import z85

from mirrorfarm.errors import FrameInvalid, SystemUnsuitable
from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.transport.address import AGENT, Address
from mirrorfarm.transport.codec import decode, encode
from mirrorfarm.transport.hoard import Hoard
from mirrorfarm.transport.keys import Keys
from mirrorfarm.transport.link.core import Inspector, NetworkNews, Sequencer
from mirrorfarm.transport.messages import ANY_MESSAGE, FarmBeat, Frame, RegisterAnswer
from mirrorfarm.transport.sockets import (
    Bind,
    Context,
    Link,
    Outbox,
    Socket,
    answer_key,
    boot_ns,
    bound_queues,
    bound_router,
    key_keeper,
    peer_dealer,
    try_send,
)
from mirrorfarm.transport.waiting import REST_PEERS_MIN, Waiting

OnMessage = Callable[[Frame, str], None]  # What came, and by which network.

IPC_PATH_BYTES_MAX: Final = 107  # sockaddr_un
TICK_MS: Final = 1_000
# libzmq gives a connection up for good after some faults of the other side (another service on
# the port, a key not yet known there): a link that has been down for this long is opened anew.
REOPEN_NS: Final = 3 * SECOND_NS
BATCH_MESSAGES: Final = 64  # Of one socket before the others have their turn.

COUNTS: Final = (
    "sent",  # Frames given to a link; copies count.
    "unsent",  # A link was down or its queue full.
    "unknown_node",
    "unknown_network",
    "delivered",
    "no_actor",  # For an actor of the agent that is not registered.
    "no_process",  # For a process that is not attached.
    "process_full",
    "handler_failed",
    "bad_local",  # A process of this node sent what is no frame.
    "forged_local",  # A process of this node used another's name.
    "bad_parts",
    "queue_full",  # Own actors sent faster than the hub takes.
    "too_large",
    "overreach",  # A witness said what only nodes may say.
    "stranger",  # A connection was refused for its key.
    "reopened",
    "hoarded",  # A connection was ended because memory filled up with what it brought.
    "loop_failed",
)


@dataclass(frozen=True, slots=True)
class HubSettings:
    """What a hub is made from. `local_socket` None: no processes attach (a witness).

    `answerers` are asked about registers and say nothing else: a witness orders nobody about.
    """

    keys: Keys
    incarnation: int
    binds: tuple[Bind, ...]
    links: tuple[Link, ...] = ()
    local_socket: Path | None = None
    module: str = AGENT  # Name of the own process; its actors are `node/module/…`.
    answerers: frozenset[str] = frozenset()


@dataclass(slots=True)
class _OpenLink:
    """A link with its socket. `down_ns`: boot clock when it was found down; 0: it is up."""

    link: Link
    socket: Socket
    down_ns: int


@dataclass(slots=True)
class _State:
    """What only the hub's own thread touches once it runs."""

    links: dict[str, dict[str, _OpenLink]] = field(default_factory=dict)
    callers: dict[str, tuple[Socket, bytes]] = field(default_factory=dict)
    outgoing: dict[str, list[tuple[Frame, str, bytes]]] = field(default_factory=dict)
    heard_farm: bool = False  # Since the last wait.
    unbound: list[Bind] = field(default_factory=list)


class Hub:
    """The bus of a node or of a witness. One thread; no method but `start` ever raises."""

    def __init__(self, settings: HubSettings) -> None:
        self._settings = settings
        self._node = settings.keys.name
        self._inspector = Inspector(settings.keys.cluster, self._node)
        self._sequencer = Sequencer(settings.keys.cluster, self._node, settings.incarnation)
        self._counts = dict.fromkeys(COUNTS, 0)
        self._handlers: dict[tuple[str, str], OnMessage] = {}
        self._stand_in: Callable[[Frame], None] | None = None
        self._names = {
            z85.decode(public): name.encode() for name, public in settings.keys.peers.items()
        }
        self._lock = threading.Lock()  # Of the sequencer, and of closing.
        self._outbox = Outbox()
        self._context: Context = zmq.Context(io_threads=1)
        self._waiting = Waiting()
        self._local: Socket | None = None
        self._state = _State()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="hub", daemon=True)

    # --- for every thread ------------------------------------------------------------------

    def register(self, module: str, actor: str, handler: OnMessage) -> None:
        """Give what comes for `node/module/actor` to `handler`, on the hub's thread.

        An empty `module` stands for every module that has no handler of its own.
        """
        self._handlers[module, actor] = handler

    def register_stand_in(self, handler: Callable[[Frame], None]) -> None:
        """Give what comes for a process that is not attached to `handler`, on the hub's thread."""
        self._stand_in = handler

    def start(self) -> None:
        """Open the sockets and run. Raise SystemUnsuitable if local processes cannot attach.

        An address that this machine does not have yet is bound as soon as it has.
        """
        try:
            self._open()
        except BaseException:
            self._end()
            raise
        self._thread.start()

    def send(
        self, to: Address, actor: str, message: ANY_MESSAGE, network: str = "", module: str = ""
    ) -> int:
        """Send as `actor` of the own process; it may be lost. Empty `network`: all.

        Return the number of the frame.
        """
        with self._lock:
            frame = self._sequencer.stamp(
                module or self._settings.module, actor, to, message, time.time_ns()
            )
            try:
                data = encode(frame)
            except FrameInvalid:  # Perhaps made of what a peer said: nobody may end for it.
                self._counts["too_large"] += 1
                return frame.sequence
            if not self._outbox.put((frame, data, network)):
                self._counts["queue_full"] += 1
        return frame.sequence

    def counters(self) -> dict[str, int]:
        """Return how often what happened since the start, and why frames were dropped."""
        return {**self._counts, **self._inspector.counts}

    def networks(self) -> tuple[NetworkNews, ...]:
        """Return when each peer was last heard on each network, and how much came by it."""
        return self._inspector.networks()

    def unbound(self) -> tuple[Bind, ...]:
        """Own addresses that could not be bound so far."""
        return tuple(self._state.unbound)

    def close(self) -> None:
        """End the thread and close the sockets; what is queued is lost."""
        self._closing = True
        with self._lock:
            self._outbox.wake()
        if self._thread.ident is None:
            self._end()
        elif self._thread is not threading.current_thread():
            self._thread.join()

    # --- opening ---------------------------------------------------------------------------

    def _open(self) -> None:
        self._waiting.watch(self._outbox.fd, self._send_own, near=True)
        # Before any bind: a connection must never find the door without its keeper.
        keeper = key_keeper(self._context)

        def answer() -> None:
            self._counts["stranger"] += not answer_key(keeper, self._names)

        self._waiting.watch(keeper, answer, near=True)
        self._open_local()
        self._state.unbound = list(self._settings.binds)
        self._bind_rest()
        for link in self._settings.links:
            opened = _OpenLink(
                link, peer_dealer(self._context, self._settings.keys, link), boot_ns()
            )
            self._state.links.setdefault(link.peer, {})[link.network] = opened
            self._watch_link(opened)

    def _open_local(self) -> None:
        path = self._settings.local_socket
        if path is None:
            return
        if len(os.fsencode(path)) > IPC_PATH_BYTES_MAX:
            raise SystemUnsuitable(
                f"{path}: longer than {IPC_PATH_BYTES_MAX} bytes, the most a socket's path may "
                "have: set MIRRORFARM_ROOT to a shorter folder"
            )
        router = self._context.socket(zmq.ROUTER)
        bound_queues(router)
        router.router_mandatory = True
        router.router_handover = True  # A process that was started again takes its place.
        try:
            _bind_local(router, path)
        except (OSError, zmq.ZMQError) as cause:
            raise SystemUnsuitable(
                f"{path}: {cause.strerror or cause}: is another agent running on this root?"
            ) from None
        self._local = router
        self._waiting.watch(router, lambda: self._drain(router, self._from_process), near=True)

    def _keep_local(self) -> None:
        """Have processes find this bus although somebody removed its socket, or all of /run."""
        path = self._settings.local_socket
        if self._local is not None and path is not None and not path.exists():
            with contextlib.suppress(OSError, zmq.ZMQError):  # Again a second later.
                _bind_local(self._local, path)

    def _bind_rest(self) -> None:
        """Bind what is not bound yet."""
        for bind in tuple(self._state.unbound):
            router = bound_router(self._context, self._settings.keys, bind)
            if router is not None:
                self._state.unbound.remove(bind)  # At once: the next one may fail otherwise.
                self._watch_router(router, bind.network)

    def _watch_router(self, router: Socket, network: str) -> None:
        def take(parts: list[zmq.Frame]) -> None:
            self._from_caller(router, network, parts)

        self._waiting.watch(router, lambda: self._drain(router, take))

    def _watch_link(self, opened: _OpenLink) -> None:
        link, dealer = opened.link, opened.socket

        def take(parts: list[zmq.Frame]) -> None:
            if len(parts) != 1:
                self._counts["bad_parts"] += 1
                return
            # No user id on this side: the pinned key says who it is.
            self._inspect(parts[0].bytes, link.peer, link.network)

        self._waiting.watch_dealer(dealer, lambda: self._drain(dealer, take))

    # --- the loop --------------------------------------------------------------------------

    def _run(self) -> None:
        checked_ns, hoard = 0, Hoard()
        while not self._closing:
            try:
                self._read(TICK_MS)
                self._send_near()
                if (now := boot_ns()) - checked_ns >= TICK_MS * MILLISECOND_NS:
                    checked_ns = now
                    self._counts["hoarded"] += hoard.look()
                    self._keep_local()
                    if self._waits():
                        self._bind_rest()
                        self._check_links(now)
            except Exception:  # Nothing that peers or processes do may end the bus.
                self._counts["loop_failed"] += 1
                time.sleep(0.01)  # A fault that stays must not eat the processor.
        with self._lock:
            self._end()

    def _waits(self) -> bool:
        """Return whether an address is not bound yet, or a link is down."""
        links = [opened for links in self._state.links.values() for opened in links.values()]
        return bool(self._state.unbound) or any(opened.down_ns for opened in links)

    def _end(self) -> None:
        self._outbox.close()
        self._waiting.close()
        self._context.destroy(linger=0)

    def _read(self, timeout_ms: int | None) -> None:
        """Wait for news and take them in."""
        state = self._state
        if state.heard_farm and len(state.links) >= REST_PEERS_MIN:
            self._waiting.rest()
        state.heard_farm = False
        for reader in self._waiting.wait(timeout_ms):
            reader()

    def _check_links(self, now: int) -> None:
        self._waiting.touch_dealers()
        for links in self._state.links.values():
            for opened in links.values():
                if not opened.down_ns:
                    continue
                if int(opened.socket.getsockopt(zmq.EVENTS)) & zmq.POLLOUT:
                    opened.down_ns = 0
                elif now - opened.down_ns > REOPEN_NS:
                    self._reopen(opened, now)

    def _reopen(self, opened: _OpenLink, now: int) -> None:
        # First: while there is none to be had, as for want of descriptors, the old one stays.
        dealer = peer_dealer(self._context, self._settings.keys, opened.link)
        self._waiting.forget_dealer(opened.socket)
        opened.socket.close(0)
        opened.socket = dealer
        opened.down_ns = now
        self._watch_link(opened)
        self._counts["reopened"] += 1

    def _drain(self, source: Socket, take: Callable[[list[zmq.Frame]], None]) -> None:
        for _ in range(BATCH_MESSAGES):
            try:
                parts = source.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            take(parts)

    # --- coming in -------------------------------------------------------------------------

    def _from_caller(self, router: Socket, network: str, parts: list[zmq.Frame]) -> None:
        if len(parts) != 2:
            self._counts["bad_parts"] += 1
            return
        try:
            user = str(parts[1].get("User-Id"))
        except zmq.ZMQError:
            user = ""
        if self._inspect(parts[1].bytes, user, network):
            self._state.callers[user] = (router, parts[0].bytes)

    def _inspect(self, data: bytes, user: str, network: str) -> bool:
        frame = self._inspector.inspect(data, user, network, boot_ns())
        if frame is None:
            return False
        if user in self._settings.answerers and not isinstance(frame.message, RegisterAnswer):
            self._counts["overreach"] += 1
            return False
        with self._lock:
            self._sequencer.observe(frame.clock, time.time_ns())
        self._state.heard_farm |= type(frame.message) is FarmBeat
        self._deliver(frame, data, network)
        return True

    def _from_process(self, parts: list[zmq.Frame]) -> None:
        if len(parts) != 3:
            self._counts["bad_parts"] += 1
            return
        process, way, data = (part.bytes for part in parts)
        try:
            frame, network = decode(data), way.decode("ascii")
        except (FrameInvalid, UnicodeDecodeError):
            self._counts["bad_local"] += 1
            return
        said = (frame.cluster, frame.source.node, frame.source.process.encode())
        if said != (self._settings.keys.cluster, self._node, process):
            self._counts["forged_local"] += 1
            return
        self._route(frame, data, network)

    # --- going on --------------------------------------------------------------------------

    def _send_own(self) -> None:
        for frame, data, network in self._outbox.take():
            self._route(frame, data, network)

    def _route(self, frame: Frame, data: bytes, network: str) -> None:
        for node in frame.to.nodes:
            if node == self._node:
                self._deliver(frame, data, "")
            else:
                self._send_to(node, data, network)

    def _send_to(self, node: str, data: bytes, network: str) -> None:
        links = self._state.links.get(node)
        if links is None:
            caller = self._state.callers.get(node)
            failure = try_send(caller[0], [caller[1], data]) if caller else 1
            self._counts["sent" if not failure else "unsent" if caller else "unknown_node"] += 1
        elif not network:
            for opened in links.values():
                self._send_by(opened, data)
        elif network in links:
            self._send_by(links[network], data)
        else:
            self._counts["unknown_network"] += 1

    def _send_by(self, opened: _OpenLink, data: bytes) -> None:
        failure = try_send(opened.socket, [data])
        self._waiting.touch_dealers()
        self._counts["unsent" if failure else "sent"] += 1
        if not failure:
            opened.down_ns = 0
        elif not opened.down_ns:
            opened.down_ns = boot_ns()

    def _deliver(self, frame: Frame, data: bytes, network: str) -> None:
        """Hand a frame for this node to its actor or process."""
        to = frame.to
        handler = self._handlers.get((to.module, to.actor)) or self._handlers.get(("", to.actor))
        if handler is not None:
            self._call(lambda: handler(frame, network))
            self._counts["delivered"] += 1
        elif self._local is None or to.process == self._settings.module:
            self._counts["no_actor"] += 1
        else:
            frames = self._state.outgoing.setdefault(to.process, [])
            frames.append((frame, network, data))
            if len(frames) >= BATCH_MESSAGES:
                self._send_near()

    def _send_near(self) -> None:
        """Hand on what processes of this node got meanwhile, one message for each process."""
        outgoing, self._state.outgoing = self._state.outgoing, {}
        for process, frames in outgoing.items():
            assert self._local is not None
            parts = [process.encode()]
            for _, network, data in frames:
                parts += (network.encode(), data)
            failure = try_send(self._local, parts)
            reason = {0: "delivered", zmq.EAGAIN: "process_full"}.get(failure, "no_process")
            self._counts[reason] += len(frames)
            stand_in = self._stand_in
            if reason == "no_process" and stand_in is not None:
                for frame, _, _ in frames:
                    self._call(partial(stand_in, frame))

    def _call(self, handler: Callable[[], None]) -> None:
        try:
            handler()
        except Exception:  # The handler's fault: the bus goes on.
            self._counts["handler_failed"] += 1


def _bind_local(router: Socket, path: Path) -> None:
    """Let processes of this node attach; those that are attached stay so."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    router.bind(f"ipc://{path}")
    path.chmod(0o600)
