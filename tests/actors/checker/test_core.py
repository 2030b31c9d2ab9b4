from dataclasses import dataclass, field

from mirrorfarm.actors.checker.core import GRACE_NS, Checker, GraceOver, is_prestarted
from mirrorfarm.actors.effects import ANY_EFFECT, Later, Log, Tell, Watch
from mirrorfarm.actors.events import (
    Event,
    ProcessesSeen,
    ProcessGone,
    ResourceChanged,
    Started,
    WatchClasses,
)
from mirrorfarm.limits import SECOND_NS
from mirrorfarm.modules.settings import Module, Process

DATABASE = Process(name="postgres", process_class="prim", action="restart")
LOGGER = Process(name="logger", process_class="both", atleast=2)
FORBIDDEN = Process(nameregex="rogue", process_class="second", atmax=0)
SLOW = Process(name="slow", process_class="slow", start_after=4)
GATEWAY = Process(name="gateway", process_class="pre", atleast=-1, atmax=1)


def settings(*processes: Process) -> Module:
    return Module(
        name="db",
        id=1,
        nodes=("node1", "node2"),
        has_scripts=True,
        processes=processes,
        errd_poll_ns=10 * SECOND_NS,
    )


@dataclass
class Story:
    core: Checker = field(
        default_factory=lambda: Checker(settings(DATABASE, LOGGER, FORBIDDEN, SLOW, GATEWAY))
    )
    now: int = 1_000

    def told(self, event: Event) -> list[ANY_EFFECT]:
        effects = self.core.handle(event, self.now)
        return [effect for effect in effects if not isinstance(effect, Log)]


def changed(ident: str, value: str, action: str = "noaction", reason: str = "") -> list[ANY_EFFECT]:
    return [Tell("module", ResourceChanged(f"proc.{ident}", value, action, reason))]


def test_classes_choose_the_entries_and_both_counts_on_either_side() -> None:
    story = Story()
    assert story.told(Started()) == []
    assert story.told(WatchClasses(("prim",))) == [
        Watch((0, 1), 1),
        Later(1_000 + GRACE_NS, GraceOver(0, 1)),
        Later(1_000 + GRACE_NS, GraceOver(1, 1)),
    ]
    assert Watch((1, 2), 1) in Story().told(WatchClasses(("second",)))
    assert Watch((4,), 1) in Story().told(WatchClasses(("pre",)))
    assert Watch((1,), 1) in Story().told(WatchClasses(("both",)))


def test_same_classes_again_change_nothing() -> None:
    story = Story()
    story.told(WatchClasses(("prim",)))
    assert story.told(WatchClasses(("prim", "both"))) == []
    assert Story().told(WatchClasses(())) == []


def test_process_that_was_seen_and_ends_is_down_at_once_with_its_action() -> None:
    story = Story()
    story.told(WatchClasses(("prim",)))
    assert story.told(ProcessesSeen(0, 1, 1)) == changed("postgres", "up")
    assert story.told(ProcessGone(0, 0, 1)) == changed(
        "postgres", "down", "restart", "Process postgres not running"
    )
    assert story.told(ProcessGone(0, 0, 1)) == []
    assert story.told(ProcessesSeen(0, 3, 1)) == changed("postgres", "up")


def test_process_is_given_its_time_to_start() -> None:
    story = Story()
    story.told(WatchClasses(("prim",)))
    assert story.told(ProcessesSeen(1, 1, 1)) == []
    assert story.told(ProcessGone(1, 0, 1)) == []
    assert story.told(ProcessesSeen(1, 1, 1)) == []
    assert story.told(GraceOver(1, 1)) == changed(
        "logger", "down", "stopstart", "Process logger not running: 1 instead of at least 2"
    )


def test_time_to_start_counts_polls_when_there_are_several() -> None:
    assert Later(1_000 + 30 * SECOND_NS, GraceOver(3, 1)) in Story().told(WatchClasses(("slow",)))


def test_forbidden_process_is_down_when_it_runs_and_up_when_it_does_not() -> None:
    story = Story()
    story.told(WatchClasses(("second",)))
    assert story.told(ProcessesSeen(2, 0, 1)) == changed("rogue", "up")
    assert story.told(ProcessesSeen(2, 1, 1)) == changed(
        "rogue", "down", "stopstart", "Process rogue running 1 times: at most 0 allowed"
    )


def test_count_without_lower_bound_may_be_none_but_not_too_many() -> None:
    story = Story()
    story.told(WatchClasses(("pre",)))
    assert story.told(ProcessesSeen(4, 0, 1)) == changed("gateway", "up")
    assert (
        story.told(ProcessesSeen(4, 2, 1))[0]
        == changed(
            "gateway", "down", "stopstart", "Process gateway running 2 times: at most 1 allowed"
        )[0]
    )


def test_watch_that_ends_puts_its_resources_back_to_init() -> None:
    story = Story()
    story.told(WatchClasses(("prim",)))
    story.told(ProcessesSeen(0, 1, 1))
    assert story.told(WatchClasses(())) == [
        *changed("postgres", "init"),
        *changed("logger", "init"),
        Watch((), 2),
    ]


def test_news_of_an_earlier_watch_is_out_of_date() -> None:
    story = Story()
    story.told(WatchClasses(("prim",)))
    story.told(ProcessesSeen(0, 1, 1))
    story.told(WatchClasses(()))
    assert story.told(ProcessGone(0, 0, 1)) == []
    story.told(WatchClasses(("prim",)))
    assert story.told(ProcessesSeen(0, 1, 1)) == []
    assert story.told(GraceOver(0, 1)) == []
    assert story.told(ProcessesSeen(0, 1, 3)) == changed("postgres", "up")


def test_entry_that_stays_watched_keeps_what_is_known_of_it() -> None:
    story = Story()
    story.told(WatchClasses(("second",)))
    story.told(ProcessesSeen(1, 2, 1))
    effects = story.told(WatchClasses(("prim",)))
    assert Watch((0, 1), 2) in effects
    assert Later(1_000 + GRACE_NS, GraceOver(1, 2)) not in effects
    assert story.told(ProcessGone(1, 1, 2))[0] == Tell(
        "module",
        ResourceChanged(
            "proc.logger",
            "down",
            "stopstart",
            "Process logger not running: 1 instead of at least 2",
        ),
    )


def test_grace_that_is_over_before_the_first_count_waits_for_it() -> None:
    story = Story()
    story.told(WatchClasses(("prim",)))
    assert story.told(GraceOver(0, 1)) == []
    assert (
        story.told(ProcessesSeen(0, 0, 1))[0]
        == changed("postgres", "down", "restart", "Process postgres not running")[0]
    )


def test_what_prestart_began_is_not_restarted_in_place() -> None:
    for action, told in (("restart", "stopstart"), ("stop", "stop"), ("noaction", "noaction")):
        helper = Process(name="helper", process_class="pre", action=action)
        story = Story(Checker(settings(helper, DATABASE)))
        story.told(WatchClasses(("pre",)))
        story.told(ProcessesSeen(0, 1, 1))
        (gone,) = story.told(ProcessGone(0, 0, 1))
        assert isinstance(gone, Tell)
        assert isinstance(gone.event, ResourceChanged)
        assert gone.event.action == told
    module = settings(DATABASE, GATEWAY)
    assert is_prestarted(module, "proc.gateway")
    assert not is_prestarted(module, "proc.postgres")
