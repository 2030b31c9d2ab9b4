"""PostgreSQL in a mirror, broken in every way: no committed row is lost, no file is damaged."""

import contextlib
import hashlib
from collections.abc import Iterator

import pytest

from tests.live.postgresql_work import BIN, BUSY, DATA, Clients, Lab, until

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]
LARGE = "CREATE TABLE large AS SELECT n, repeat('x', 900) FROM generate_series(1, 20000) n"
OTHER = {"n1": "n2", "n2": "n1"}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    if not (BIN / "initdb").exists():
        pytest.skip("PostgreSQL 15 is not installed")
    with Lab() as built:
        built.begin("n1", "n2", seconds=90)
        yield built


@pytest.fixture(scope="module")
def writers(lab: Lab) -> Iterator[Clients]:
    clients = Clients(lab)
    clients.prepare()
    with clients.writing():
        yield clients


@pytest.fixture
def clients(lab: Lab, writers: Clients) -> Iterator[Clients]:
    """Give a cluster where n1 serves; afterwards it is whole again and nothing is lost."""
    lab.together()
    writers.go_on(60)
    yield writers
    writers.go_on(60)
    writers.check()
    lab.together()
    writers.go_on(60)
    writers.check()
    assert not lab.complaints()


def test_a_cut_cable_moves_the_database(lab: Lab, clients: Clients) -> None:
    lab.cut("n1")
    lab.wait_state("n2", "ALONE", 60)
    clients.go_on(60)
    clients.check()
    lab.mend("n1")
    lab.pair(60)


def test_a_power_cut_of_the_primary_moves_the_database(lab: Lab, clients: Clients) -> None:
    lab.kill_node("n1")
    lab.wait_state("n2", "ALONE", 60)
    clients.go_on(60)
    clients.check()


def test_a_power_cut_of_the_secondary_does_not_stop_the_database(
    lab: Lab, clients: Clients
) -> None:
    lab.kill_node("n2")
    lab.wait_state("n1", "ALONE", 60)
    clients.go_on(60)


def test_power_cuts_of_one_node_after_the_other(lab: Lab, clients: Clients) -> None:
    for node in ("n1", "n2", "n1"):
        lab.kill_node(node)
        lab.wait_state(OTHER[node], "ALONE", 60)
        clients.go_on(60)
        clients.check()
        lab.start_node(node)
        lab.give(node, "start")
        lab.pair(60)


def test_a_power_cut_of_everything(lab: Lab, clients: Clients) -> None:
    for name in ("n1", "n2", "w"):
        lab.kill_node(name)
    lab.together()


def test_a_killed_database_is_started_again(lab: Lab, clients: Clients) -> None:
    before = lab.postmaster("n1")
    lab.kill("n1", "postmaster")
    until(lambda: lab.postmaster("n1") not in {0, before}, 60, lab.story)
    clients.go_on(60)
    lab.pair(60)


def test_a_killed_database_is_started_again_though_a_session_outlives_it(
    lab: Lab, clients: Clients
) -> None:
    before = lab.postmaster("n1")
    with lab.as_client(), contextlib.closing(clients.connect()) as link:
        link.pgconn.send_query(BUSY.encode())
        lab.kill("n1", "postmaster")
        until(lambda: lab.postmaster("n1") not in {0, before}, 60, lab.story)
        clients.go_on(60)
        lab.pair(60)


@pytest.mark.parametrize("node", ["n1", "n2"])
@pytest.mark.parametrize("role", ["agent", "module", "replica", "guard"])
def test_a_killed_process_of_ours_costs_no_row(
    lab: Lab, clients: Clients, node: str, role: str
) -> None:
    before = lab.pids(node)[role][0]
    lab.kill(node, role)
    until(lambda: lab.pids(node).get(role, [before])[0] != before, 60, lab.story)
    clients.go_on(60)
    clients.check()
    lab.pair(60)


def test_a_killed_witness_stops_nothing(lab: Lab, clients: Clients) -> None:
    lab.kill_node("w")
    clients.go_on(60, more=50)
    assert lab.role("n1") == "PRIM Ready"


def test_swaps_back_and_forth(lab: Lab, clients: Clients) -> None:
    for node in ("n1", "n2", "n1"):
        lab.give(node, "swap")
        lab.wait_state(OTHER[node], "PRIM", 60)
        clients.go_on(60)
        clients.check()
        lab.pair(60)


def test_a_stop_of_the_primary_hands_the_database_over(lab: Lab, clients: Clients) -> None:
    lab.give("n1", "stop")
    assert lab.role("n1") == "STOP NotReady"
    lab.wait_state("n2", "ALONE", 60)
    clients.go_on(60)
    clients.check()


def test_a_large_transaction_survives_a_power_cut(lab: Lab, clients: Clients) -> None:
    with lab.as_client(), clients.connect() as link:
        link.execute(LARGE)
    lab.kill_node("n1")
    lab.wait_state("n2", "ALONE", 60)
    clients.go_on(60)
    with lab.as_client(), clients.connect() as link:
        assert link.execute("SELECT count(*), sum(n) FROM large").fetchone() == (20000, 200010000)


def files(lab: Lab, node: str) -> dict[str, tuple[int, int, int, str]]:
    """Return what is on the disk of a node beneath the mount: mode, owner, contents as a hash."""
    root = lab.machines[node].disk(DATA)
    found = {}
    for path in root.rglob("*"):
        status = path.lstat()
        text = hashlib.blake2b(path.read_bytes()).hexdigest() if path.is_file() else ""
        owner = (status.st_mode, status.st_uid, status.st_gid, text)
        found[str(path.relative_to(root))] = owner
    return found


def different(lab: Lab) -> list[str]:
    """Return the names that the two disks do not agree about."""
    try:
        one, other = files(lab, "n1"), files(lab, "n2")
    except FileNotFoundError as error:  # Deleted while we looked.
        return [str(error.filename)]
    return sorted(name for name in one | other if one.get(name) != other.get(name))


def test_at_the_end_both_disks_are_the_same_and_whole(lab: Lab, clients: Clients) -> None:
    assert clients.check(deep=True) > 1000
    lab.give("n1", "swap")
    lab.pair(60)
    lab.give("n2", "swap")  # Both have written since, and both have received.
    lab.pair(60)
    with clients.silence():
        until(lambda: not different(lab), 60, lambda: f"{different(lab)}\n{lab.story()}")
        assert len(files(lab, "n1")) > 500
        lab.give("n1", "stop")
        lab.wait_state("n2", "ALONE", 60)
        lab.give("n2", "stop")
        for node in ("n1", "n2"):
            done = lab.as_postgres(node, str(BIN / "pg_checksums"), "--check", "-D", DATA)
            assert done.returncode == 0, done.stdout + done.stderr
            assert "Bad checksums:  0" in done.stdout
        lab.give("n2", "start")
