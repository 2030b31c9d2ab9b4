"""All faults of a scenario file at once, each with its line, its key and a cure."""

import pytest

from mirrorfarm.errors import ConfigInvalid
from mirrorfarm.sim.acts.cables import Cut
from mirrorfarm.sim.acts.farm import Start, Wish
from mirrorfarm.sim.acts.vocabulary import FARM
from mirrorfarm.sim.farm_faults import OF_THE_MODULE
from mirrorfarm.sim.scenario.effect import OF_WHOLE_NODES
from mirrorfarm.sim.scenario.reading import read

FAULTY = b"""title: a test
mirror: {arbiter: witnes, netwoks: 2}
farm: {nodes: 17}
events:
  - {at: 1 s, cut: n1 w7, for: 300 ms, nettwork: second}
  - at: 1.5 s
    pwoer: n1
  - {at: 2, pause: n1}
  - {at: 3 s, power: n1, swap: n2, start: n1}
  - power: n1
  - {at: 12 s, power: n4}
  - just words
  - {at: 1 s, cut: [n1, [n2]]}
expct: []
network: fast
expect:
  - {by: 3 s, node: n9, is: ALONE Ready}
  - {by: 2 s, is: ALONE Ready}
  - {at: 2 s, node: n1}
  - {node: n1, is: down}
"""
FAULTS = """\
f.yaml:2: mirror.arbiter: 'witnes' is not allowed; did you mean witness?
f.yaml:2: mirror.netwoks: unknown key; did you mean networks?
f.yaml:5: events.cut: w7 is not in this cluster, which has: n1, n2, w1, gw
f.yaml:5: events.nettwork: unknown key; did you mean network?
f.yaml:7: events.pwoer: unknown event; did you mean power?
f.yaml:8: events.at: '2' is not a duration: a number and a unit (ns us ms s min h), as in 300 ms
f.yaml:8: events.for: required, but absent: a duration
f.yaml:9: events: power and start: two things; write two events
f.yaml:10: events.at: required, but absent: when it happens
f.yaml:11: events.power: n4 is not in this cluster, which has: n1, n2
f.yaml:12: events: write it as {at: 1 s, …}
f.yaml:13: events.cut: a value is expected: two machines, as in `n1 w1`
f.yaml:14: expct: unknown key; did you mean expect?
f.yaml:15: network: keys with values are expected
f.yaml:17: expect.node: n9 is not in this cluster, which has: n1, n2
f.yaml:18: expect: earlier than the one before; order them
f.yaml:18: expect.node: required, but absent: a node
f.yaml:19: expect: expects nothing; known here: acknowledged, answer, because, is, told
f.yaml:20: expect: needs either at or by: when to look"""


def faults_of(text: bytes) -> tuple[str, ...]:
    with pytest.raises(ConfigInvalid) as found:
        read(text, "f.yaml")
    return found.value.faults


def test_every_fault_is_listed_with_its_line_and_a_cure() -> None:
    text = FAULTY.replace(b"farm: {nodes: 17}", b"")
    assert "\n".join(faults_of(text)) == FAULTS


def test_a_cluster_is_a_mirror_or_a_farm() -> None:
    assert "f.yaml:3: farm: either mirror or farm, not both" in faults_of(FAULTY)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (b"events: [{at: 11 s, power: n1}]", "after the end of the scenario"),
        (b"end: 49 h", "is not within"),
        (b"farm: {}\ncore: n1+w1", "core: only of a mirror"),
        (b"farm: {}\nevents: [{at: 1 s, power: n1}]", "unknown event"),
        (b"events: [{at: 1 s, cut: n1 n2, network: second}]", "second is not in this cluster"),
        (b"events: [{at: 1 s, lose: Nonsense, way: n1 n2}]", "is not known"),
        (b"events: [{at: 1 s, kill_module: n1, module: app2}]", "app2 is not in this cluster"),
        (b"expect: [{at: 1 s, node: n1, is: down, module: web}]", "web is not in this cluster"),
        (b"events: [{at: 1 s, power: n1, module: app}]", "events.module: unknown key"),
        (b"farm: {}\nevents: [{at: 1 s, crash: n1, module: web}]", "module: only of a mirror"),
        (b"mirror: {modules: 4}", "is not within 1 to 3"),
        (b"events: {at: 1 s}", "a list is expected"),
        (b"just words", "keys with values are expected"),
        (b"farm: {nodes: 99}", "is not within 2 to 16"),
        (b"seed: -1", "64 bits"),
        (b"violates: S77", "violates: S77 is not known; did you mean S7?"),
        (b"violates: F1", "violates: F1 is only of a farm; leave it out"),
        (b"farm: {}\nviolates: S3", "violates: S3 is only of a mirror; leave it out"),
        (b"mirror: {arbiter: none}\nviolates: S1", "S1 is not watched with `arbiter: none`"),
        (b"violates: S15", "S15 is watched with `arbiter: ping` or `arbiter: none` only"),
        (b"events:\n" + b"  - {at: 1 s, power: n1}\n" * 5_001, "more than 5000"),
    ],
)
def test_a_fault_says_what_is_wrong(text: bytes, fault: str) -> None:
    assert fault in "\n".join(faults_of(text))


@pytest.mark.parametrize(
    ("cluster", "wanted", "faults"),
    [
        (
            "farm",
            "node: n1, is: PRIM Ready",
            ["expect.is: only of a mirror: of a farm, expect how"],
        ),
        ("farm", "acknowledged: 77", ["expect.acknowledged: only of a mirror: a farm's clients"]),
        ("farm", "settled: n1 n9", ["expect.settled: n9 is not in this cluster, which has: n1"]),
        ("farm", "node: n1, told: x", ["expect.node: is nothing without one of `because`, `buc"]),
        ("farm", "node: n1", ["expect: expects nothing; known here: answer, because, buckets, s"]),
        (
            "farm",
            "node: n1, buckets: 512, module: web",
            ["expect.module: only of a mirror: a farm has only one"],
        ),
        ("mirror", "node: n1, buckets: 5", ["expect.buckets: only of a farm: of a mirror, expect"]),
        (
            "mirror",
            "settled: n1 n9",
            ["expect.settled: n9 is not in", "expect.settled: only of a farm: of a mirror, expect"],
        ),
        ("mirror", "node: n1, module: app", ["expect: expects nothing; known here: acknowledged,"]),
        ("mirror", "module: app, told: x", ["expect.module: is nothing without one of `is`, `bec"]),
        ("mirror", 'told: ""', ["expect.told: empty, which holds whatever happens: write what"]),
        ("mirror", "node: n1, is: ", ["expect.is: empty, which holds whatever happens: write"]),
        ("mirror", "node: n1, is: down, because: ' '", ["expect.because: empty, which holds"]),
        ("mirror", "answer: []", ["expect.answer: empty, which holds whatever happens"]),
        (
            "mirror",
            "node: n1, is: ALONE Redy",
            ["expect.is: ALONE Redy is not known; did you mean ALONE Ready?"],
        ),
        ("mirror", "node: n1, is: gone", ["expect.is: gone is not known; known here: ALONE NotR"]),
        ("mirror", "answer: dun", ["expect.answer: dun is not known; known here: done, failed"]),
    ],
)
def test_what_would_hold_whatever_happens_or_never_is_no_expectation(
    cluster: str, wanted: str, faults: list[str]
) -> None:
    found = faults_of(f"{cluster}: {{}}\nexpect:\n  - {{at: 1 s, {wanted}}}\n".encode())
    assert len(found) == len(faults)
    for text, fault in zip(found, faults, strict=True):
        assert text.startswith(f"f.yaml:3: {fault}")


ALONE = "does nothing in a farm of filters alone: write `farm: {whole: yes}`, or leave it out"


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ("command: stop, node: n1", ALONE),
        ("command_in_phase: stop, node: n1, phase: up", ALONE),
        ("failure_in_phase: n1, phase: member, what: record", ALONE),
        ("application_exits: n1", ALONE),
        ("application_start_fails: n1", ALONE),
        ("application_start_hangs: n1", ALONE),
        ("application_stop_hangs: n1", ALONE),
        ("record_fails: n1", ALONE),
        ("crash_in_phase: n1, phase: up, how: pause", "filters alone are never up, a phase of the"),
        ("crash: n1, process: replica", "a farm has no replicator; leave out `process`"),
        ("partition: n1 n2 | n9", "n9 is not in this cluster, which has: n1, n2, n3"),
    ],
)
def test_an_event_that_does_nothing_is_a_fault(event: str, reason: str) -> None:
    name = event.partition(":")[0]
    keys = event.replace(", ", "\n    ")
    (fault,) = faults_of(f"farm: {{}}\nevents:\n  - at: 1 s\n    {keys}\n".encode())
    assert fault.startswith(f"f.yaml:4: events.{name}: {reason}")


@pytest.mark.parametrize(
    "event",
    [
        "command: stop, node: n1",
        "command_in_phase: stop, node: n1, phase: up",
        "failure_in_phase: n1, phase: up, what: record",
        "application_exits: n1",
        "crash_in_phase: n1, phase: up, how: pause",
        "start: n1",
    ],
)
def test_nodes_that_are_whole_have_a_module(event: str) -> None:
    text = f"farm: {{whole: yes}}\nevents: [{{at: 1 s, {event}}}]\n"
    assert len(read(text.encode(), "f").events) == 1


def test_a_whole_node_is_wished_away_by_a_command() -> None:
    text = b"farm: {whole: yes}\nevents: [{at: 1 s, start: n1, wish: drain}]\n"
    reason = "with `whole` a node starts to take part: leave it out, and write `command`"
    assert faults_of(text) == (f"f.yaml:2: events.wish: {reason}",)
    text = b"farm: {whole: yes}\nevents: [{at: 1 s, wish: n1, to: drain}]\n"
    (fault,) = faults_of(text)
    assert fault.startswith("f.yaml:2: events.wish: goes past the module of a whole node, which")


@pytest.mark.parametrize("cluster", ["mirror", "farm"])
@pytest.mark.parametrize(
    ("event", "key"),
    [
        ("flap: n1 n2, away: 0 s, back: 100 ms", "away"),
        ("flap: n1 n2, away: 100 ms, back: 0 ms", "back"),
        ("cut: n1 n2, for: 0 s", "for"),
    ],
)
def test_what_lasts_no_time_would_last_for_ever_and_is_refused(
    cluster: str, event: str, key: str
) -> None:
    (fault,) = faults_of(f"{cluster}: {{}}\nevents: [{{at: 1 s, {event}}}]\n".encode())
    assert fault.startswith(f"f.yaml:2: events.{key}: 0 ")
    assert "is no time at all: a longer duration is expected" in fault


def test_a_core_is_of_what_is_mended() -> None:
    reason = "nothing is mended without `converges: yes`: write that, or leave it out"
    assert faults_of(b"mirror: {}\ncore: n1+w1\n") == (f"f.yaml:2: core: {reason}",)
    assert read(b"core: n1+w1\nconverges: yes\n", "f").core == "n1+w1"


def test_sweeps_of_filters_alone_leave_out_what_does_nothing_there() -> None:
    assert set(OF_THE_MODULE) <= set(OF_WHOLE_NODES) <= set(FARM.acts)


def test_a_file_is_as_good_as_what_it_leaves_out() -> None:
    found = read(b"events: [{at: 1 s, cut: [n1, w1]}]", "f")
    assert found.events[0].act == Cut(("n1", "w1"))
    assert found.events[0].at_ns == 1_000_000_000
    assert found.nodes == ("n1", "n2")
    assert found.begin == "in service"


def test_the_key_of_an_event_may_be_called_as_another_event() -> None:
    text = b"""farm: {}
events:
  - {at: 0 s, start: n1, wish: drain}
  - {wish: away, at: 0 s, start: n2}
  - {at: 0 s, wish: n1, to: in}
"""
    acts = [event.act for event in read(text, "f").events]
    assert acts == [Start("n1", "drain"), Start("n2", "away"), Wish("n1", "in")]
