"""`mirrorfarm sim run`: a seed told, so that one line makes it again."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from mirrorfarm.cli.sim import run
from mirrorfarm.errors import UsageInvalid


def call(*words: str) -> str:
    result = CliRunner().invoke(run, words, standalone_mode=False, catch_exceptions=False)
    if result.exception is not None:
        raise result.exception
    assert result.return_value == 0
    return result.output


def test_the_first_and_the_last_line_name_seed_and_build_and_one_line_makes_it_again() -> None:
    lines = call("--seed", "0x2a", "--options", "mirror").splitlines()
    assert lines[0] == lines[-1]
    assert lines[0].startswith("seed 0x2a build ")
    assert "outcome: ok" in lines
    again = next(line for line in lines if line.startswith("again: mirrorfarm sim run "))
    assert call(*again.split()[4:]).splitlines()[-3] == lines[-3]
    assert lines[-3].startswith("digest: ")


def test_a_farm_is_told_as_json() -> None:
    told = json.loads(call("--seed", "7", "--options", "farm-swarm,minutes=1", "--json"))
    assert told["outcome"] == "ok"
    assert "nodes=" in told["described"]
    assert told["steps"] > 1_000


@pytest.mark.parametrize("seed", ["x", "-1", "0x10000000000000000"])
def test_what_is_no_seed_is_refused_with_an_example(seed: str) -> None:
    with pytest.raises(UsageInvalid, match="0x5eed"):
        call("--seed", seed)


def test_nothing_is_simulated_without_assertions() -> None:
    """A core that is wrong would count as right."""
    words = (sys.executable, "-O", "-m", "mirrorfarm.cli.main", "sim", "run", "--seed", "1")
    found = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 8
    assert "without the assertions" in found.stderr
