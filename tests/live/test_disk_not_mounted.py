"""A node that is started while an empty directory is where its disk belongs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.live.fault_work import OTHER, Client, Lab

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]
DATA = "/var/lib/ledger"


class CheckedLab(Lab):
    """A ledger that is replicated only where a file is found in its directory."""

    def userconfig(self, **options: Any) -> str:
        text = super().userconfig(**options)
        plain = f'<replicated dir="{DATA}"/>'
        assert plain in text
        checked = f'<replicated dir="{DATA}"><tocheck path="mounted"/></replicated>'
        return text.replace(plain, checked)

    def install(self, module: str, *options: Any, **more: Any) -> None:
        for node in self.nodes:
            folder = self.machines[node].disk(DATA)
            folder.mkdir(parents=True)
            (folder / "mounted").touch()
        super().install(module, *options, **more)


LAB = CheckedLab


@contextmanager
def emptied(lab: Lab, node: str) -> Iterator[None]:
    """Have an empty directory where the data are."""

    def do(script: str) -> None:
        done = lab.run(node, ["sh", "-c", script])
        assert not done.returncode, done.stderr

    do(f"mv {DATA} {DATA}.kept && mkdir {DATA}")
    yield
    do(f"rmdir {DATA} && mv {DATA}.kept {DATA}")


@pytest.mark.parametrize("victim", ["n1", "n2"])
def test_a_node_without_its_disk_does_not_pass_for_a_copy(
    lab: Lab, client: Client, victim: str
) -> None:
    lab.order(victim, "stop")
    client.go_on(60)
    with emptied(lab, victim):
        lab.order(victim, "start")
        reason = lab.await_words(victim, "the data of this node cannot be trusted", 60)
        assert f"{DATA}/mounted must be there before {DATA} is replicated" in reason
        lab.wait_state(victim, "WAIT", 60, status="NotReady")
        assert lab.role(OTHER[victim]) == "ALONE Ready"
        client.go_on(60)
    lab.order(victim, "stopstart")
    lab.pair(60)


def test_nobody_serves_an_empty_directory(lab: Lab, client: Client) -> None:
    lab.order("n2", "stop")
    lab.wait_state("n1", "ALONE", 60)
    client.go_on(60)
    lab.order("n1", "stop")
    with emptied(lab, "n1"):
        lab.order("n1", "start")
        lab.await_words("n1", f"{DATA}/mounted must be there before {DATA} is replicated", 60)
        lab.wait_state("n1", "WAIT", 60, status="NotReady")
        lab.order("n2", "start")  # It must not be made equal to what is empty.
        lab.await_words("n2", "the newest are on n1", 60)
    lab.order("n1", "stopstart")
    lab.pair(60)
    client.go_on(60)
