"""What an error says about a Python package that is missing works where mirrorfarm is installed."""

import configparser
import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mirrorfarm.errors import SystemUnsuitable
from mirrorfarm.extras import installing
from mirrorfarm.netfilter import nfqueue
from mirrorfarm.sim.sweeps.tables import CURE

ROOT = Path(__file__).resolve().parents[2]


def load_dask_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mirrorfarm.sim.sweeps.dask_engine", raising=False)
    importlib.import_module("mirrorfarm.sim.sweeps.dask_engine")


def load_nfqueue(monkeypatch: pytest.MonkeyPatch) -> None:
    del monkeypatch
    nfqueue._library()


@pytest.mark.parametrize(
    ("package", "extra", "load"),
    [("dask", "dask", load_dask_engine), ("netfilterqueue", "nfqueue", load_nfqueue)],
)
def test_a_package_that_is_missing_is_told_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch,
    package: str,
    extra: str,
    load: Callable[[pytest.MonkeyPatch], None],
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SystemUnsuitable, match=re.escape(installing(extra))):
        load(monkeypatch)


def test_what_is_told_is_how_the_readme_installs() -> None:
    assert ".venv/bin/pip install -e ." in (ROOT / "README.md").read_text()
    assert installing("analysis") in CURE
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert {"analysis", "dask", "nfqueue"} <= set(setup["options.extras_require"])


def test_nothing_tells_to_install_mirrorfarm_from_an_index() -> None:
    folders = ("mirrorfarm", "actors", "modules", "netfilter", "transport", "docs", "tests")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.*")]
    texts = {path: path.read_text() for path in files if path.suffix in {".py", ".md"}}
    wrong = re.compile(r"install '?mirrorfarm\[")
    assert [path for path, text in texts.items() if wrong.search(text)] == []
