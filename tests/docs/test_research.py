"""Every command of docs/research.md runs, in the page's order, and prints what the page shows."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/research.md"
BLOCK = re.compile(r"^```(console|python|yaml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks() -> Iterator[tuple[str, str]]:
    """Return what is to be done: files to save, commands to run, with what they should print."""
    for language, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if language == "console":
            for part in re.split(r"^(?=[$#] )", text, flags=re.MULTILINE)[1:]:
                command, _, shown = part.partition("\n")
                yield command, shown
        else:
            name = re.match(r"# (\w+\.(?:py|yaml))\n", text)
            assert name is not None, f"the first line must name the file: {text}"
            yield name[1], text


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A checkout as the page has it: examples beside, `python` and `mirrorfarm` of these tests."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    programs = tmp_path / ".programs"
    programs.mkdir()
    for name, words in (("python", ""), ("mirrorfarm", " -m mirrorfarm.cli.main")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -W error{words} "$@"\n')
        program.chmod(0o755)
    path = f"{programs}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}


def plain(text: str) -> str:
    """Return a text without what differs between builds and terminals: numbers and spaces."""
    return re.sub(r"[\s─]+", " ", re.sub(r"\d+(\.\d+)?", "0", text)).strip()


@pytest.mark.timeout(600)
def test_every_command_of_the_page_runs_and_prints_what_it_shows(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    for module in ("duckdb", "pyarrow"):
        pytest.importorskip(module, reason=f"the page needs {module}: pip install -e '.[dev]'")
    count = 0
    for what, text in blocks():
        if not what.startswith(("$", "#")):
            (tmp_path / what).write_text(text, encoding="utf-8")
            continue
        if what.startswith("#"):  # As root: tests/live/test_demo.py runs that.
            continue
        count += 1
        done = subprocess.run(
            # It also ends what the shell started, if that takes too long.
            ["timeout", "--kill-after=5", "300", "bash", "-c", what[2:]],
            cwd=tmp_path,
            env=environment,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{what}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, f"{what}\n{done.stderr}"
        for shown in text.split("…"):
            assert plain(shown) in plain(done.stdout), f"{what}\nshows not: {shown}\n{done.stdout}"
    assert count >= 10
    assert (tmp_path / "latencies.csv").stat().st_size > 100
