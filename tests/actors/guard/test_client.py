import errno
import json
import os
import queue
import resource
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mirrorfarm.actors.cgroup import Cgroup, mounted
from mirrorfarm.actors.effects import GuardOrder
from mirrorfarm.actors.events import GuardActed
from mirrorfarm.actors.guard.client import GuardClient
from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS
from mirrorfarm.paths import Paths

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="control groups need root")

FAR = 3_600 * SECOND_NS
RSS_KIB_MAX = 12 * 1_024

PARENT = """
import sys, time
from pathlib import Path
from mirrorfarm.actors.cgroup import Cgroup
from mirrorfarm.actors.effects import GuardOrder
from mirrorfarm.actors.guard.client import GuardClient
from mirrorfarm.paths import Paths
scope, root, lease_ns = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
cgroup = Cgroup(scope)
cgroup.create()
guard = GuardClient("db", Paths(root), cgroup, addresses=("198.18.7.1", "2001:db8:7::1"),
                    inbox=lambda event: None, log=lambda *words: None)
guard.start()
guard.order(GuardOrder(time.clock_gettime_ns(time.CLOCK_BOOTTIME) + lease_ns))
print(guard.pid, flush=True)
time.sleep(60)
"""


def now() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def eventually(condition: Callable[[], object], seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.005)
    return bool(condition())


def ended(pid: int) -> bool:
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True


@dataclass
class Bench:
    paths: Paths
    cgroup: Cgroup
    inbox: "queue.Queue[Any]" = field(default_factory=queue.Queue)
    logged: list[str] = field(default_factory=list)
    applications: list[subprocess.Popen[bytes]] = field(default_factory=list)
    modules: list["subprocess.Popen[str]"] = field(default_factory=list)
    guards: list[int] = field(default_factory=list)

    def client(self) -> GuardClient:
        return GuardClient(
            "db",
            self.paths,
            self.cgroup,
            addresses=("198.18.7.1",),
            inbox=self.inbox.put,
            log=lambda _, text: self.logged.append(text),
        )

    def application(self) -> subprocess.Popen[bytes]:
        application = subprocess.Popen(["/bin/sleep", "60"])
        self.applications.append(application)
        self.cgroup.add(application.pid)
        return application

    def module(self, lease_ns: int, *prefix: str) -> tuple["subprocess.Popen[str]", int]:
        """Start a process that arms a guard; return it and the guard's number."""
        words = [self.cgroup.scope, str(self.paths.root), str(lease_ns)]
        module = subprocess.Popen(
            [*prefix, sys.executable, "-c", PARENT, *words], stdout=subprocess.PIPE, text=True
        )
        self.modules.append(module)
        assert module.stdout is not None
        self.guards.append(int(module.stdout.readline()))
        return module, self.guards[-1]

    def close(self) -> None:
        for module in self.modules:
            module.kill()
        for guard in self.guards:
            if not ended(guard):
                os.kill(guard, signal.SIGKILL)
        for module in self.modules:
            module.communicate()
        assert self.cgroup.kill() == []
        for application in self.applications:
            application.wait()
        self.cgroup.remove()


@pytest.fixture(params=[2, 1])
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    hierarchy = next(mounted(request.param), None)
    if hierarchy is None:
        pytest.skip(f"no control groups of version {request.param} here")
    cgroup = Cgroup(f"test-{uuid.uuid4().hex[:12]}", hierarchy)
    cgroup.create()
    made = Bench(Paths(tmp_path), cgroup)
    yield made
    made.close()


@pytest.fixture
def guard(bench: Bench) -> Iterator[GuardClient]:
    client = bench.client()
    client.start()
    yield client
    client.order(GuardOrder(0))
    client.close()


def test_application_dies_at_the_deadline_and_the_guard_says_so(
    bench: Bench, guard: GuardClient
) -> None:
    application = bench.application()
    deadline = now() + 50 * MILLISECOND_NS
    guard.order(GuardOrder(deadline))
    assert bench.inbox.get(timeout=20) == GuardActed(deadline)
    assert now() >= deadline
    assert application.wait() == -signal.SIGKILL


def test_moved_deadline_is_the_one_that_counts(bench: Bench, guard: GuardClient) -> None:
    application = bench.application()
    guard.order(GuardOrder(now() + 300 * MILLISECOND_NS))
    guard.order(GuardOrder(now() + FAR))
    time.sleep(0.4)
    assert application.poll() is None
    guard.order(GuardOrder(1))
    assert bench.inbox.get(timeout=20) == GuardActed(1)


def test_disarmed_guard_spares_the_application(bench: Bench, guard: GuardClient) -> None:
    application = bench.application()
    guard.order(GuardOrder(now() + 300 * MILLISECOND_NS))
    guard.order(GuardOrder(0))
    time.sleep(0.4)
    assert application.poll() is None
    assert bench.inbox.empty()


def test_scripts_can_run_again_after_the_guard_acted(bench: Bench, guard: GuardClient) -> None:
    bench.application()
    guard.order(GuardOrder(1))
    bench.inbox.get(timeout=20)
    again = subprocess.Popen(["/bin/sleep", "0"])
    bench.cgroup.add(again.pid)
    assert again.wait(timeout=20) == 0


def test_guard_that_dies_is_replaced_and_the_new_one_knows_the_deadline(
    bench: Bench, guard: GuardClient
) -> None:
    application = bench.application()
    first, deadline = guard.pid, now() + SECOND_NS
    guard.order(GuardOrder(deadline))
    os.kill(first, signal.SIGKILL)
    assert bench.inbox.get(timeout=20) == GuardActed(deadline)
    assert guard.pid != first
    assert application.wait() == -signal.SIGKILL
    assert any("another one took over" in line for line in bench.logged)


def test_a_guard_that_stood_still_hears_all_that_it_missed_before_it_acts(
    bench: Bench, guard: GuardClient
) -> None:
    application = bench.application()
    os.kill(guard.pid, signal.SIGSTOP)
    for number in range(1, 200):
        guard.order(GuardOrder(number))
    guard.order(GuardOrder(now() + FAR))
    os.kill(guard.pid, signal.SIGCONT)
    time.sleep(0.4)
    assert bench.inbox.empty()
    assert application.poll() is None


def test_a_guard_that_stands_still_for_good_is_replaced(bench: Bench, guard: GuardClient) -> None:
    """Nobody would be fenced by it; and going on it would end what it was told to spare."""
    application, first = bench.application(), guard.pid
    os.kill(first, signal.SIGSTOP)
    for _ in range(500):
        guard.order(GuardOrder(now() + 60 * SECOND_NS))
        guard.order(GuardOrder(0))
    assert eventually(lambda: guard.pid != first)
    assert eventually(lambda: any("another one took over" in line for line in bench.logged))
    assert any("takes no orders" in line for line in bench.logged)
    assert bench.inbox.empty()
    assert application.poll() is None
    deadline = now() + 50 * MILLISECOND_NS
    guard.order(GuardOrder(deadline))
    assert bench.inbox.get(timeout=20) == GuardActed(deadline)


def test_guard_of_a_process_with_thousands_of_open_files_acts(bench: Bench) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    held = [os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC) for _ in range(1_100)]
    client = bench.client()
    try:
        client.start()
        application = bench.application()
        client.order(GuardOrder(1))
        assert bench.inbox.get(timeout=5) == GuardActed(1)
        assert application.wait() == -signal.SIGKILL
    finally:
        client.order(GuardOrder(0))
        client.close()
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_guard_that_cannot_be_replaced_now_is_replaced_later(
    bench: Bench, guard: GuardClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    application, real, refused = bench.application(), subprocess.Popen, list[Any]()

    def scarce(*words: Any, **more: Any) -> Any:
        if len(refused) < 3:
            refused.append(words)
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        return real(*words, **more)

    monkeypatch.setattr(subprocess, "Popen", scarce)
    first, deadline = guard.pid, now() + SECOND_NS
    guard.order(GuardOrder(deadline))
    os.kill(first, signal.SIGKILL)
    assert bench.inbox.get(timeout=20) == GuardActed(deadline)
    assert application.wait() == -signal.SIGKILL
    assert guard.pid != first
    (told,) = [line for line in bench.logged if "cannot be replaced" in line]
    assert "Resource temporarily unavailable" in told


def test_client_whose_guard_cannot_be_replaced_can_be_closed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    client = bench.client()
    client.start()
    with monkeypatch.context() as scarce:
        scarce.setattr(subprocess, "Popen", refuse)
        os.kill(client.pid, signal.SIGKILL)
        assert eventually(lambda: any("cannot be replaced" in line for line in bench.logged))
        client.close()
    assert ended(client.pid)


def test_closed_guard_that_is_not_armed_ends_and_spares_the_application(bench: Bench) -> None:
    application = bench.application()
    client = bench.client()
    client.start()
    client.order(GuardOrder(now() + FAR))
    client.order(GuardOrder(0))
    client.close()
    assert ended(client.pid)
    assert application.poll() is None


def test_a_guard_that_is_armed_when_its_module_ends_acts_all_the_same(bench: Bench) -> None:
    """The stop scripts took longer than the end of the node may: nobody renews the lease."""
    application = bench.application()
    client = bench.client()
    client.start()
    bench.guards.append(client.pid)
    client.order(GuardOrder(now() + SECOND_NS))
    client.close()
    assert application.poll() is None
    assert application.wait(timeout=20) == -signal.SIGKILL
    assert eventually(lambda: ended(client.pid))


def test_guard_is_small_and_ignores_requests_to_end(guard: GuardClient) -> None:
    status = Path(f"/proc/{guard.pid}/status")
    assert eventually(lambda: "VmLck:\t       0 kB" not in status.read_text())
    os.kill(guard.pid, signal.SIGTERM)
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    assert int(fields["VmRSS"].split()[0]) <= RSS_KIB_MAX
    assert not ended(guard.pid)


def test_new_module_process_fences_in_place_of_the_guard_that_the_old_one_left(
    bench: Bench,
) -> None:
    if not (bench.cgroup.path / "cgroup.kill").exists():
        pytest.skip("one version is enough: the parent takes the preferred one")
    application = bench.application()
    old, orphan = bench.module(FAR)
    old.kill()
    old.wait()
    assert not ended(orphan)
    client = bench.client()
    client.start()
    assert application.wait(timeout=20) == -signal.SIGKILL
    assert eventually(lambda: ended(orphan))
    assert bench.application().poll() is None
    client.close()


def test_a_guard_is_known_until_it_is_relieved_whoever_dies_before(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it ends, at its time, an application that is in order."""
    if not (bench.cgroup.path / "cgroup.kill").exists():
        pytest.skip("one version is enough: the parent takes the preferred one")
    old, orphan = bench.module(FAR)
    old.kill()
    old.wait()

    def die(*_: Any) -> None:
        raise InterruptedError

    second, third = bench.client(), bench.client()
    with monkeypatch.context() as dying:
        dying.setattr(second, "_relieve", die)
        with pytest.raises(InterruptedError):
            second.start()
    bench.guards.append(second.pid)
    assert not ended(orphan)
    application = bench.application()
    third.start()
    assert application.wait(timeout=20) == -signal.SIGKILL
    assert eventually(lambda: ended(orphan))
    assert eventually(lambda: ended(second.pid)), "nor does the second one's stay"
    second._process.wait()
    second._channel.close()
    assert bench.application().poll() is None
    third.close()


def addresses(namespace: str) -> set[str]:
    shown = subprocess.run(
        ["ip", "-n", namespace, "-j", "address", "show", "dev", "side0"],
        check=True,
        capture_output=True,
    )
    return {info["local"] for link in json.loads(shown.stdout) for info in link["addr_info"]}


@pytest.mark.live
@pytest.mark.parametrize("blow", [signal.SIGSTOP, signal.SIGKILL])
def test_stopped_or_killed_module_loses_addresses_and_application(
    bench: Bench, namespace: str, blow: signal.Signals
) -> None:
    if not (bench.cgroup.path / "cgroup.kill").exists():
        pytest.skip("one version is enough: the parent takes the preferred one")
    application = bench.application()
    assert {"198.18.7.1", "2001:db8:7::1"} <= addresses(namespace)
    module, guard = bench.module(SECOND_NS, "ip", "netns", "exec", namespace)
    module.send_signal(blow)
    assert application.wait(timeout=20) == -signal.SIGKILL
    assert eventually(lambda: not {"198.18.7.1", "2001:db8:7::1"} & addresses(namespace))
    assert "198.18.7.2" in addresses(namespace)
    module.kill()
    assert eventually(lambda: ended(guard))
    assert bench.cgroup.processes() == []
