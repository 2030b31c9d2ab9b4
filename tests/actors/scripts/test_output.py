import os
from pathlib import Path

from mirrorfarm.actors.scripts.output import Output, open_log, prune


def test_log_of_a_run_has_its_date_and_script_in_name_and_header(tmp_path: Path) -> None:
    path, file = open_log(tmp_path / "scripts", "start_prim", ("WAIT", "ALONE", "start"))
    os.close(file)
    assert path.name.endswith("_start_prim.ulog")
    assert path.read_text().endswith(" start_prim WAIT ALONE start\n")
    assert path.stat().st_mode & 0o777 == 0o600


def test_output_beyond_the_cap_is_thrown_away_with_a_note(tmp_path: Path) -> None:
    path, file = open_log(tmp_path, "start_prim", ())
    header = path.stat().st_size
    output = Output(file, header + 10)
    os.write(output.writer, b"0123456789")
    assert output.pump()
    assert not output.full
    os.write(output.writer, b"abc")
    assert output.pump()
    assert output.full
    os.write(output.writer, b"more")
    output.close_writer()
    assert output.pump()
    assert not output.pump()
    output.close()
    lines = path.read_text().splitlines()
    assert lines[1] == "0123456789"
    assert "truncated" in lines[2]
    assert "abc" not in path.read_text()


def test_empty_pipe_is_not_its_end() -> None:
    output = Output(-1, 0)
    assert output.pump()
    output.close_writer()
    assert not output.pump()
    output.close()


def test_only_the_newest_logs_are_kept(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / f"2026-01-0{number}_x.ulog").touch()
    (tmp_path / "other").touch()
    prune(tmp_path, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "2026-01-07_x.ulog",
        "2026-01-08_x.ulog",
        "2026-01-09_x.ulog",
        "other",
    ]
    prune(tmp_path / "none")
