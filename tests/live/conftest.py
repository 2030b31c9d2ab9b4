"""A ledger on two nodes with a client that writes, as the tests find it that break things."""

from collections.abc import Iterator

import pytest

from tests.live.fault_work import MODULE, Client, Lab


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """n1 PRIM and n2 SECOND; a module of tests may name another class of lab, as `LAB`."""
    with getattr(request.module, "LAB", Lab)(module=MODULE, profile="fast") as built:
        built.begin("n1", "n2")
        yield built


@pytest.fixture(scope="module")
def ledger(lab: Lab) -> Client:
    return Client(lab)


@pytest.fixture
def client(lab: Lab, ledger: Client) -> Iterator[Client]:
    """Write during the test; the pair must be whole, and every record there, at its end."""
    lab.together()
    with ledger.writing():
        yield ledger
        lab.together()
        ledger.go_on(60)
    ledger.check()
