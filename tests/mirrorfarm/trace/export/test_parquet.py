"""Parquet tables, read by pyarrow and asked by DuckDB."""

import re
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import pytest

from mirrorfarm.actors.events import Started
from mirrorfarm.cli.main import main
from mirrorfarm.errors import TraceInvalid
from mirrorfarm.limits import SECOND_NS
from mirrorfarm.sim.scenario.playing import play
from mirrorfarm.sim.scenario.reading import read
from mirrorfarm.trace.export import Options, export
from mirrorfarm.trace.merge import Merge
from mirrorfarm.transport import trace_ring

pq = pytest.importorskip("pyarrow.parquet")
TABLES = ("events", "messages", "roles", "writes", "facts")
DOCS = Path(__file__).parents[4] / "docs" / "operate" / "trace-export.md"
EXAMPLES = Path(__file__).parents[4] / "examples" / "traces"
SCENARIOS = EXAMPLES.parent / "scenarios"


@pytest.fixture(name="folder", scope="module")
def fixture_folder(recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables") / "traces"
    export([recorded], Options("parquet", folder, run="one"))
    return folder


def rows(folder: Path, table: str) -> list[dict[str, Any]]:
    [path] = (folder / table).rglob("*.parquet")
    assert path.parent.name == "run=one"
    read = pq.ParquetFile(path).read()
    columns = {  # Times as nanoseconds: pyarrow alone has no objects for them.
        name: (column.cast("int64") if name.startswith("t_") or name == "t" else column).to_pylist()
        for name, column in zip(read.column_names, read.columns, strict=True)
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def test_events_has_a_row_for_each_event_and_effect(recorded: Path, folder: Path) -> None:
    merged = list(Merge([recorded]).steps())
    found = rows(folder, "events")
    assert len(found) == sum(1 + len(placed.step.effects) for placed in merged)
    inputs = [row for row in found if row["kind"] == "input"]
    assert [row["number"] for row in inputs] == list(range(len(merged)))
    assert [row["lam"] for row in inputs] == [placed.lamport for placed in merged]
    names = {row["about"] for row in found if row["name"] == "Received"}
    assert names >= {"Heartbeat", "RegisterCas", "RegisterAnswer"}


def test_messages_are_joined_or_lost(recorded: Path, folder: Path) -> None:
    merge = Merge([recorded])
    list(merge.steps())
    found = rows(folder, "messages")
    came = [row for row in found if row["received"] is not None]
    joined = [row for row in came if row["sent"] is not None]
    assert len(joined) == merge.joined
    assert all(0 <= row["latency_ns"] < 1_400_000 for row in joined), "0.1 to 0.9 ms"
    assert [row["actor"] for row in came if row["sent"] is None] == ["cli"], "`prim`, to n1"
    lost = [row for row in found if row["received"] is None]
    assert lost
    assert {(row["node"], row["peer"]) for row in lost if row["name"] == "Heartbeat"} == {
        ("n1", "n2"),  # Before n2 was started,
        ("n2", "n1"),  # and when n1 was gone.
    }


def test_of_a_message_to_several_nodes_it_is_known_who_did_not_get_it(tmp_path: Path) -> None:
    export([EXAMPLES / "farm"], Options("parquet", tmp_path, run="one"))
    lost = [row for row in rows(tmp_path, "messages") if row["received"] is None]
    beats = {(row["node"], row["peer"]) for row in lost if row["name"] == "FarmBeat"}
    assert beats >= {("n1", "n3"), ("n3", "n1")}, "n3 was cut off"
    assert None not in {row["peer"] for row in lost}


@pytest.mark.parametrize("example", ["takeover", "farm"])
def test_every_message_that_came_has_a_row_as_in_other_formats(
    example: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export([EXAMPLES / example], Options("parquet", tmp_path / "tables", run="one"))
    found = rows(tmp_path / "tables", "messages")
    came = [row for row in found if row["received"] is not None]
    with pytest.raises(SystemExit):
        main(["trace", "show", "--kind", "recv", "--json", str(EXAMPLES / example)])
    assert len(came) == len(capsys.readouterr().out.splitlines())
    packets = export([EXAMPLES / example], Options("pcapng", tmp_path / "packets")).message
    assert packets.startswith(f"{len(came)} packets")
    alone = [row for row in came if row["sent"] is None]
    assert alone
    assert all(row["t_received"] for row in alone)
    assert {(row["t_sent"], row["latency_ns"]) for row in alone} == {(None, None)}


def test_roles_are_spans_without_holes(recorded: Path, folder: Path) -> None:
    found, last = rows(folder, "roles"), {}
    ends = {placed.step.node: placed.at_ns for placed in Merge([recorded]).steps()}
    for node in ("n1", "n2"):
        spans = [row for row in found if row["node"] == node]
        for one, after in pairwise(spans):
            assert one["t_to"] == after["t_from"]
        last[node] = spans[-1]
        assert spans[-1]["t_to"] == ends[node], "nobody knows what it was after its last step"
    assert [(row["role"], row["term"]) for row in last.values()] == [("PRIM", 1), ("ALONE", 2)]
    assert last["n1"]["t_to"] < last["n2"]["t_to"] - 9 * SECOND_NS


def test_a_role_ends_with_its_process(
    restarted: Path, lives: dict[str, list[tuple[int, int]]], tmp_path: Path
) -> None:
    export([restarted], Options("parquet", tmp_path, run="one"))
    found = rows(tmp_path, "roles")
    for node, spans in lives.items():
        of_node = [row for row in found if row["node"] == node]
        for begin_ns, end_ns in spans:
            of_life = [row for row in of_node if begin_ns <= row["t_from"] <= end_ns]
            assert of_life[-1]["t_to"] == end_ns
            assert all(one["t_to"] == two["t_from"] for one, two in pairwise(of_life))
    serving = sorted(
        (row["t_from"], row["t_to"], row["node"])
        for row in found
        if row["role"] in {"PRIM", "ALONE"}
    )
    assert [node for node, _ in groupby(node for *_, node in serving)] == ["n1", "n2", "n1"]
    assert all(one[1] <= two[0] for one, two in pairwise(serving)), "never both"


def test_two_runs_share_a_folder(recorded: Path, tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    for run in ("one", "two"):
        export([recorded], Options("parquet", tmp_path / "all", run=run))
    counts = duckdb.sql(
        f"select run, count(*) from read_parquet('{tmp_path}/all/facts/**/*.parquet') group by run"
    ).fetchall()
    assert {run for run, _ in counts} == {"one", "two"}
    assert len({count for _, count in counts}) == 1


def test_simulated_runs_without_a_name_do_not_replace_each_other(tmp_path: Path) -> None:
    for name in ("second_dies", "swap"):  # Of the same seed, they begin alike.
        file = SCENARIOS / f"{name}.yaml"
        play(read(file.read_bytes(), file.name), tells=False, trace=tmp_path / name)
        for _ in range(2):
            export([tmp_path / name], Options("parquet", tmp_path / "all"))
    assert len(list((tmp_path / "all" / "events").iterdir())) == 2


@pytest.mark.parametrize(
    ("cluster", "name"),
    [
        ("0123456789abcdef", "01234567"),
        ("a\0b", "ab"),
        ("../../zz", "zz"),
        (".-x" * 40, "x.-x.-x."),
        ("/\0", "run"),
        ("", "run"),
    ],
)
def test_a_run_without_a_name_is_one_folder_whatever_its_cluster_is_called(
    cluster: str, name: str, tmp_path: Path
) -> None:
    origin = trace_ring.Origin("1", cluster, "n1", "web", 1, "boot")
    with pytest.MonkeyPatch.context() as patch:
        header = {**trace_ring.header_of(origin), "epoch_real_ns": 5 * SECOND_NS}
        patch.setattr(trace_ring, "header_of", lambda _: header)
        ring = trace_ring.Ring(tmp_path / "traces", origin, 1 << 20, 8)
        ring.ready(SECOND_NS, 1)
        ring.encoder.step("module", SECOND_NS, Started(), [], [])
        ring.flush(ends=True)
    export([tmp_path / "traces"], Options("parquet", tmp_path / "out"))
    found = {path.relative_to(tmp_path / "out") for path in tmp_path.rglob("*.parquet")}
    assert found == {Path(table, f"run={name}-6", "part-0.parquet") for table in TABLES}


def test_the_query_of_the_manual_tells_the_takeover(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    duckdb = pytest.importorskip("duckdb")
    [query] = re.findall(r"```sql\n(.*?)```", DOCS.read_text(), re.DOTALL)
    monkeypatch.chdir(folder.parent)
    [(run, node, silent_s, total_s)] = duckdb.sql(query).fetchall()
    assert (run, node) == ("one", "n2")
    assert 0.4 < silent_s < 0.7, "from the silence to service: the promise, then three messages"
    assert 2.0 < total_s < 3.0, "since the last heartbeat that came"


def test_a_broken_export_leaves_no_table(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mirrorfarm.trace.export import parquet  # noqa: PLC0415

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parquet.Parquet, "_fact", full)
    with pytest.raises(OSError, match="No space left"):
        export([recorded], Options("parquet", tmp_path / "out"))
    assert not list(tmp_path.rglob("*.parquet*"))


def test_unfinished_tables_take_no_name_that_is_taken(recorded: Path, tmp_path: Path) -> None:
    place = tmp_path / "roles" / "run=one"
    place.mkdir(parents=True)
    (place / "part-0.parquet.part").write_text("precious")
    (place / "part-0.parquet.1.part").write_text("precious")
    export([recorded], Options("parquet", tmp_path, run="one"))
    assert (place / "part-0.parquet.part").read_text() == "precious"
    assert (place / "part-0.parquet.1.part").read_text() == "precious"
    assert len(list(place.iterdir())) == 3


def test_tables_that_cannot_all_be_begun_leave_nothing(recorded: Path, tmp_path: Path) -> None:
    (tmp_path / "writes").write_text("precious")
    with pytest.raises(OSError, match="writes"):
        export([recorded], Options("parquet", tmp_path))
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["writes"]


def test_without_pyarrow_it_says_what_to_install(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mirrorfarm.trace.export.parquet", None)
    with pytest.raises(TraceInvalid, match=r"pip install -e '\.\[analysis\]'"):
        export([recorded], Options("parquet", tmp_path / "out"))
