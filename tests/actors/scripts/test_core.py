from dataclasses import dataclass, field

from mirrorfarm.actors.effects import (
    ANY_EFFECT,
    EndScript,
    KillScripts,
    Log,
    StartScript,
    Tell,
)
from mirrorfarm.actors.events import (
    ApplicationGone,
    Event,
    KillApplication,
    RunSequence,
    ScriptEnded,
    ScriptStep,
    SequenceEnded,
    Started,
)
from mirrorfarm.actors.scripts.core import MISSING, Scripts
from mirrorfarm.limits import SECOND_NS
from mirrorfarm.modules.settings import Module

SETTINGS = Module(
    name="db",
    id=1,
    nodes=("node1", "node2"),
    has_scripts=True,
    nice_stop_ns=20 * SECOND_NS,
    force_stop_ns=10 * SECOND_NS,
    start_ns=30 * SECOND_NS,
)


@dataclass
class Story:
    core: Scripts = field(default_factory=lambda: Scripts(SETTINGS))
    logged: list[str] = field(default_factory=list)

    def told(self, event: Event) -> list[ANY_EFFECT]:
        effects = self.core.handle(event, 0)
        self.logged += [effect.text for effect in effects if isinstance(effect, Log)]
        return [effect for effect in effects if not isinstance(effect, Log)]


def run(number: int, *steps: str) -> RunSequence:
    """Order scripts; a name with an exclamation mark is forced."""
    made = tuple(ScriptStep(step.rstrip("!"), step.endswith("!")) for step in steps)
    return RunSequence(number, made, "WAIT", "ALONE", "start")


def start(number: int, name: str, seconds: int, *, force: bool = False) -> StartScript:
    words = ("WAIT", "ALONE", "start")
    arguments = ("force", *words) if force else words
    return StartScript(number, name, arguments, seconds * SECOND_NS)


def test_scripts_run_one_after_the_other_and_the_mirror_is_told_at_the_end() -> None:
    story = Story()
    assert story.told(Started()) == []
    assert story.told(run(1, "transition", "start_prim")) == [start(1, "transition", 30)]
    assert story.told(ScriptEnded(1, "transition", 0)) == [start(1, "start_prim", 30)]
    assert story.told(ScriptEnded(1, "start_prim", 0)) == [Tell("module", SequenceEnded(1))]


def test_forced_pass_says_force_first_and_has_a_time_limit_of_its_own() -> None:
    story = Story()
    assert story.told(run(1, "stop_prim", "stop_prim!")) == [start(1, "stop_prim", 20)]
    assert story.told(ScriptEnded(1, "stop_prim", 0)) == [start(1, "stop_prim", 10, force=True)]


def test_failed_scripts_are_listed_in_words_and_the_sequence_goes_on() -> None:
    story = Story()
    story.told(run(1, "start_both", "start_prim", "stop_prim", "stop_prim!"))
    story.told(ScriptEnded(1, "start_both", 255))
    story.told(ScriptEnded(1, "start_prim", -1, failure="not executable"))
    story.told(ScriptEnded(1, "stop_prim", -15, timed_out=True))
    assert story.told(ScriptEnded(1, "stop_prim", -9)) == [
        Tell(
            "module",
            SequenceEnded(
                1,
                (
                    "start_both: exit 255",
                    "start_prim: not executable",
                    "stop_prim: no end within 20 s, killed",
                    "stop_prim force: killed by signal 9",
                ),
            ),
        )
    ]
    assert story.logged[0] == "Script start_both: exit 255"


def test_missing_script_is_no_failure() -> None:
    story = Story()
    story.told(run(1, "start_both", "start_prim"))
    assert story.told(ScriptEnded(1, "start_both", 0, failure=MISSING)) == [
        start(1, "start_prim", 30)
    ]
    assert story.told(ScriptEnded(1, "start_prim", 0)) == [Tell("module", SequenceEnded(1))]


def test_new_sequence_waits_until_the_running_script_of_the_old_one_has_ended() -> None:
    story = Story()
    story.told(run(1, "start_both", "start_prim"))
    assert story.told(run(2, "stop_prim")) == [EndScript(1, "start_both")]
    assert story.told(run(3, "stop_both")) == []
    assert story.told(ScriptEnded(1, "start_both", -15)) == [start(3, "stop_both", 20)]
    assert story.told(ScriptEnded(3, "stop_both", 0)) == [Tell("module", SequenceEnded(3))]


def test_killing_the_application_abandons_the_sequence() -> None:
    story = Story()
    story.told(run(1, "start_both", "start_prim"))
    assert story.told(KillApplication(2)) == [KillScripts(2)]
    assert story.told(ScriptEnded(1, "start_both", -9)) == []
    assert story.told(ApplicationGone(2)) == [Tell("module", ApplicationGone(2))]


def test_no_script_starts_before_the_killed_application_is_gone() -> None:
    story = Story()
    story.told(run(1, "start_prim"))
    story.told(KillApplication(2))
    assert story.told(run(3, "stop_prim")) == []
    assert story.told(ScriptEnded(1, "start_prim", -9)) == []
    assert story.told(ApplicationGone(2)) == [
        Tell("module", ApplicationGone(2)),
        start(3, "stop_prim", 20),
    ]


def test_second_order_to_kill_must_be_answered_before_scripts_start() -> None:
    story = Story()
    story.told(KillApplication(1))
    story.told(KillApplication(2))
    story.told(run(3, "start_prim"))
    assert story.told(ApplicationGone(1)) == [Tell("module", ApplicationGone(1))]
    assert story.told(ApplicationGone(2))[1:] == [start(3, "start_prim", 30)]


def test_script_of_the_past_that_ends_late_moves_nothing() -> None:
    story = Story()
    story.told(run(7, "start_prim"))
    assert story.told(ScriptEnded(6, "start_prim", 0)) == []
    assert story.told(ScriptEnded(7, "stop_prim", 0)) == []


def test_module_without_scripts_ends_every_sequence_at_once() -> None:
    story = Story(Scripts(Module(name="db", id=1, nodes=("node1", "node2"))))
    assert story.told(run(1, "start_prim")) == [Tell("module", SequenceEnded(1))]


def test_empty_sequence_ends_at_once() -> None:
    story = Story()
    assert story.told(run(1)) == [Tell("module", SequenceEnded(1))]
