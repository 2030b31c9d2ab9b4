"""No packet is taken by two nodes, whatever changes; in a stable view each is taken by one."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from mirrorfarm.lab import farm_web
from mirrorfarm.lab.cluster import OneMachine, at_once
from mirrorfarm.lab.farm_acceptors import PORT, SERVER, Datagrams, change
from tests.live.farm_work import ADDRESS, up, userconfig

# `make sweep-farm` makes 100 of them, about 9 minutes for each filter.
CHANGES = int(os.environ.get("MIRRORFARM_CHANGES", "6"))
pytestmark = [pytest.mark.live, pytest.mark.timeout(240 + 20 * CHANGES)]

NODES = ("n1", "n2", "n3")
START = f"""#!/bin/bash
/usr/bin/python3 -IS -c '{SERVER}' {ADDRESS} "$MIRRORFARM_NODE" &>/dev/null &
echo $! >"$SAFEUSERVAR/pid"
sleep 0.3
"""
STOP = """#!/bin/bash
[[ -e $SAFEUSERVAR/pid ]] && kill "$(<"$SAFEUSERVAR/pid")" 2>/dev/null
rm -f "$SAFEUSERVAR/pid"
exit 0
"""


@pytest.fixture(params=["bpf", "nft"])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OneMachine]:
    """Three nodes that answer datagrams."""
    for name, text in (("start_both", START), ("stop_both", STOP)):
        path = tmp_path / "echo/bin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    rule = f'<rule proto="udp" port="{PORT}" filter="on_port"/>'
    text = userconfig(farm=f'filter="{request.param}" drain="1s"', more=rule)
    (tmp_path / "echo/conf").mkdir()
    (tmp_path / "echo/conf/userconfig.xml").write_text(text)
    with OneMachine(nodes=NODES, witness=False) as machine:
        at_once(machine.start_node, NODES)
        machine.module = "echo"
        machine.install("echo", text, source=str(tmp_path / "echo"))
        up(machine, *NODES)
        yield machine


def in_one_view(lab: OneMachine) -> tuple[float, float]:
    """Return the begin and the end of a time in which all nodes obeyed one view."""
    deadline = time.monotonic() + 60
    while True:
        before = [farm_web.view_of(lab, node, NODES) for node in NODES]
        begin = time.monotonic() + 0.2
        time.sleep(0.6)
        end = time.monotonic() - 0.1
        after = [farm_web.view_of(lab, node, NODES) for node in NODES]
        if 0 < min(before) == max(before) and after == before:
            return begin, end
        assert time.monotonic() < deadline, f"no view is stable: {before}, then {after}"


def test_no_datagram_is_answered_twice_during_random_changes(lab: OneMachine) -> None:
    random = Random(7)

    def settled(members: set[str]) -> None:
        farm_web.await_members(lab, members, 60)

    told: list[str] = []
    stable: list[tuple[float, float]] = []
    with Datagrams(lab, ADDRESS) as client:
        time.sleep(0.5)
        for _ in range(CHANGES):
            told.append(change(lab, random, settled))
            stable.append(in_one_view(lab))
    assert client.most() == 1, told
    for what, (begin, end) in zip(told, stable, strict=True):
        found = client.between(begin, end)
        assert set(found) == set(NODES), (what, found)
