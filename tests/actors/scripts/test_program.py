import os
import subprocess
import sys
from pathlib import Path

import pytest

from mirrorfarm.actors.scripts.core import MISSING
from mirrorfarm.actors.scripts.program import environment, unfit
from mirrorfarm.modules.settings import Farm, Module
from mirrorfarm.paths import Paths


@pytest.fixture
def script(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir(mode=0o755)
    path = folder / "start_prim"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_script_that_only_root_can_write_may_run(script: Path) -> None:
    assert unfit(script) == ""


def test_script_that_does_not_exist_is_missing_and_not_at_fault(script: Path) -> None:
    assert unfit(script.with_name("stop_prim")) == MISSING


def test_script_that_goes_while_it_is_looked_at_is_a_failure_and_breaks_nothing(
    script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.stat

    def look(path: Path) -> os.stat_result:
        found = real(path)
        script.unlink(missing_ok=True)
        return found

    monkeypatch.setattr(Path, "stat", look)
    assert unfit(script) == f"not run: {script}: No such file or directory"


def test_script_without_execute_permission_names_the_cure(script: Path) -> None:
    script.chmod(0o644)
    assert unfit(script) == f"not run: {script} is not executable: chmod u+x {script}"


@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_script_that_others_can_write_does_not_run(script: Path, mode: int) -> None:
    script.chmod(mode)
    assert f"chmod go-w {script}" in unfit(script)


def test_script_in_a_folder_that_others_can_write_does_not_run(script: Path) -> None:
    script.parent.chmod(0o777)
    assert f"chmod go-w {script.parent}" in unfit(script)


def test_link_is_as_fit_as_what_it_leads_to(script: Path, tmp_path: Path) -> None:
    link = script.with_name("start_both")
    folder = tmp_path / "elsewhere"
    link.symlink_to(folder / "start")
    assert unfit(link) == f"not run: {link} leads to {folder}/start, which does not exist"
    folder.mkdir()
    script.rename(folder / "start")
    assert unfit(link) == ""
    folder.chmod(0o777)
    assert f"chmod go-w {folder}" in unfit(link)


def test_folder_named_like_a_script_does_not_run(script: Path) -> None:
    folder = script.with_name("stop_prim")
    folder.mkdir()
    assert "is not a regular file" in unfit(folder)


def test_variables_of_the_user_reach_scripts_but_cannot_replace_ours(tmp_path: Path) -> None:
    variables = (
        ("SERVICES", "a, b"),
        ("PATH", "/tmp"),
        ("SAFEMODULE", "other"),
        ("MIRRORFARM_NODE", "other"),
    )
    settings = Module(name="db", id=1, nodes=("node1", "node2"), variables=variables)
    given = environment(settings, "node2", Paths(tmp_path))
    assert given["SERVICES"] == b"a, b"
    assert given["SAFEMODULE"] == given["MIRRORFARM_MODULE"] == "db"
    assert given["MIRRORFARM_NODE"] == "node2"
    assert given["SAFEUSERBIN"] == f"{tmp_path}/etc/mirrorfarm/modules/db/bin"
    assert str(given["PATH"]).endswith(":/usr/bin:/sbin:/bin")
    assert given["LANG"] == "C.UTF-8"


def test_scripts_read_utf_8_also_where_this_process_has_another_locale() -> None:
    program = (
        "import subprocess, sys; from mirrorfarm.actors.scripts.program import environment;"
        "from mirrorfarm.modules.settings import Module; from mirrorfarm.paths import Paths;"
        "settings = Module('db', 1, ('n1', 'n2'), variables=(('PRICE', '5 \\u20ac'),));"
        "given = environment(settings, 'n1', Paths.from_environment());"
        "sys.exit(subprocess.call(['/bin/sh', '-c', 'printf %s \"$PRICE\"'], env=given))"
    )
    printed = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-c", program],
        env=os.environ | {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"},
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
    )
    assert printed.stdout == "5 €".encode()


@pytest.mark.parametrize("on", [True, False])
def test_scripts_are_told_whether_they_open_the_traffic(tmp_path: Path, on: bool) -> None:
    settings = Module(name="web", id=1, nodes=("n1",), mode="farm", farm=Farm(script_control=on))
    given = environment(settings, "n1", Paths(tmp_path))
    assert given["MIRRORFARM_SCRIPTCONTROL"] == ("on" if on else "off")
