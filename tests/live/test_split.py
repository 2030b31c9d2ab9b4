"""Two nodes without an arbiter that both went on: one is kept, the other's writes are set aside."""

from collections.abc import Iterator

import pytest

from mirrorfarm.actors.replicator.quarantine import MANIFEST
from mirrorfarm.lab.cluster import OneMachine

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

DIRECTORY = "/var/lib/ledger"


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Iterator[OneMachine]:
    """A ledger with no arbiter and the policy of the test, PRIM on n1."""
    with OneMachine(witness=False) as machine:
        text = machine.userconfig().replace("<rfs", f'<rfs divergence="{request.param}"')
        text = text.replace("</service>", '<arbiter kind="none"/></service>')
        machine.module = "ledger"
        machine.install("ledger", text, folders=(DIRECTORY,))
        machine.begin("n1", "n2")
        yield machine


def put(lab: OneMachine, node: str, name: str, text: str) -> None:
    """Let something on a node write durably into the replicated directory."""
    script = 'printf %s "$2" >"$1" && sync -d "$1"'
    done = lab.run(node, ["sh", "-c", script, "sh", f"{DIRECTORY}/{name}", text])
    assert done.returncode == 0, done.stderr


def read(lab: OneMachine, node: str, name: str) -> str:
    return lab.run(node, ["cat", f"{DIRECTORY}/{name}"]).stdout


def split(lab: OneMachine) -> None:
    """Part the nodes, and let each write what the other lacks."""
    put(lab, "n1", "shared", "before")
    lab.cut("n2")
    lab.wait_state("n1", "ALONE", 60)
    lab.wait_state("n2", "ALONE", 60)
    for node in ("n1", "n2"):
        put(lab, node, "shared", f"by {node}")
        put(lab, node, f"only-{node}", node)
    lab.mend("n2")


def kept(lab: OneMachine, node: str) -> dict[str, str]:
    """Return what the quarantine of a node holds, by path; none: empty."""
    folders = list((lab.paths(node).module_lib("ledger") / "quarantine").glob("*"))
    assert len(folders) <= 1
    found = {}
    for folder in folders:
        assert (folder / MANIFEST).read_text()
        assert folder.stat().st_mode & 0o777 == 0o700
        for path in (folder / "0").rglob("*"):
            if path.is_file() and not path.name.endswith((".db", "-wal", "-shm", "-journal")):
                found[path.name] = path.read_text()
    return found


@pytest.mark.parametrize(
    ("lab", "winner"), [("keep-primary", "n1"), ("keep-newer", "n2")], indirect=["lab"]
)
def test_the_policy_names_who_goes_on_and_nothing_is_thrown_away(
    lab: OneMachine, winner: str
) -> None:
    split(lab)
    loser = "n2" if winner == "n1" else "n1"
    lab.wait_state(winner, "PRIM", 60)
    lab.wait_state(loser, "SECOND", 60)
    for node in ("n1", "n2"):
        assert read(lab, node, "shared") == f"by {winner}"
        assert read(lab, node, f"only-{winner}") == winner
    assert kept(lab, loser) == {"shared": f"by {loser}", f"only-{loser}": loser}
    assert kept(lab, winner) == {}
    log = lab.mirrorfarm(loser, "log", "-m", "ledger", "-A")
    assert "SPLIT" in log
    assert "is set aside in" in log


@pytest.mark.parametrize("lab", ["manual"], indirect=True)
def test_with_manual_both_wait_and_tell_what_to_do(lab: OneMachine) -> None:
    split(lab)
    for node in ("n1", "n2"):
        state = lab.wait_state(node, "WAIT", 60, status="NotReady")
        assert state["reason"].startswith("SPLIT: ")
    words = " ".join(lab.mirrorfarm("n2", "why", "-m", "ledger").split())
    assert "mirrorfarm -H n2 prim -m ledger" in words
    assert "each has writes that the other lacks" in words
    assert kept(lab, "n1") == kept(lab, "n2") == {}
    lab.order("n2", "prim")
    lab.wait_state("n2", "PRIM", 60)
    lab.wait_state("n1", "SECOND", 60)
    assert read(lab, "n1", "shared") == "by n2"
    assert kept(lab, "n1") == {"shared": "by n1", "only-n1": "n1"}
