"""Stories of an address that is set once the guard has acted: its module stood still until then."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mirrorfarm.actors.cgroup import Cgroup
from tests.actors.guard.test_client import addresses, ended, eventually

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root"),
]

VIP = "198.18.7.9"
# A module that gives each order that it reads, says what became of it, and may be stopped.
MODULE = """
import queue, signal, sys, threading, time
from pathlib import Path
from mirrorfarm.actors.cgroup import Cgroup
from mirrorfarm.actors.effects import GuardOrder, KillScripts
from mirrorfarm.actors.guard.client import GuardClient
from mirrorfarm.actors.vip.door import VipDoor
from mirrorfarm.modules.settings import VirtualAddress
from mirrorfarm.paths import Paths

told = queue.SimpleQueue()
cgroup = Cgroup(sys.argv[1])
cgroup.create()
guard = GuardClient("db", Paths(Path(sys.argv[2])), cgroup, addresses=(sys.argv[3],),
                    inbox=told.put, log=lambda *words: None)
guard.start()
stops = 0

def is_over():
    global stops
    over = guard.is_over()
    if stops:
        stops = 0
        # This thread itself takes the signal: another one that did would let it go on a little.
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
    return over

door = VipDoor((VirtualAddress(sys.argv[3]),), is_over=is_over)
print(guard.pid, flush=True)
for line in sys.stdin:
    order, *words = line.split()
    if order == "arm":
        guard.order(GuardOrder(time.clock_gettime_ns(time.CLOCK_BOOTTIME) + int(words[0])))
    elif order == "disarm":
        guard.order(GuardOrder(0))
    elif order == "ends":
        guard.application_ends()
    elif order == "await":
        print(told.get(timeout=20), flush=True)
    elif order == "add":
        stops = len(words)
        door.add(1, told.put)
"""


@dataclass
class Node:
    namespace: str
    module: "subprocess.Popen[str]"
    guard: int
    application: subprocess.Popen[bytes]

    def order(self, text: str) -> None:
        assert self.module.stdin is not None
        self.module.stdin.write(f"{text}\n")
        self.module.stdin.flush()

    def hears(self) -> str:
        self.order("await")
        assert self.module.stdout is not None
        return self.module.stdout.readline()

    def fenced(self) -> None:
        self.order("arm 1")
        assert "GuardActed" in self.hears()

    def sets_the_address(self) -> None:
        words = ["ip", "-n", self.namespace, "address", "add", f"{VIP}/24", "dev", "side0"]
        subprocess.run(words, check=True)

    def has_it(self) -> bool:
        return VIP in addresses(self.namespace)


@pytest.fixture
def node(namespace: str, tmp_path: Path) -> Iterator[Node]:
    inside = ["ip", "netns", "exec", namespace]
    words = [*inside, sys.executable, "-c", MODULE, namespace, str(tmp_path), VIP]
    module = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    cgroup, guard = Cgroup(namespace), 0
    application = subprocess.Popen(["/bin/sleep", "60"])
    try:
        assert module.stdout is not None
        guard = int(module.stdout.readline())
        cgroup.create()
        cgroup.add(application.pid)
        yield Node(namespace, module, guard, application)
    finally:
        module.kill()
        if guard and not ended(guard):
            os.kill(guard, signal.SIGKILL)
        module.communicate()
        application.kill()
        application.wait()
        cgroup.remove()


def test_a_module_that_stood_still_before_it_set_its_address_does_not_keep_it(node: Node) -> None:
    node.order("arm 500000000")
    node.order("add stops")
    state = Path(f"/proc/{node.module.pid}/stat")
    assert eventually(lambda: ") T " in state.read_text())
    assert not node.has_it()
    # The deadline passes; the peer may lead now. Then the module goes on where it was.
    assert node.application.wait(timeout=20) == -signal.SIGKILL
    os.kill(node.module.pid, signal.SIGCONT)
    heard = node.hears() + node.hears()
    assert "the guard has acted, or is about to" in heard
    assert not node.has_it()


def test_what_is_set_after_the_guard_acted_goes_at_once(node: Node) -> None:
    node.fenced()
    node.sets_the_address()
    assert eventually(lambda: not node.has_it())
    node.sets_the_address()
    assert eventually(lambda: not node.has_it())


@pytest.mark.parametrize("order", ["disarm", "arm 3600000000000", "ends"])
def test_what_was_ordered_since_the_guard_acted_lets_an_address_be(node: Node, order: str) -> None:
    node.fenced()
    node.order(order)
    node.order("add")
    assert "failures=()" in node.hears()
    assert not eventually(lambda: not node.has_it(), seconds=0.5)
