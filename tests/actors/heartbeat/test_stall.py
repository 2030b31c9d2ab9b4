"""A late timer tells of a stall of this process, once."""

from mirrorfarm.actors.heartbeat.stall import Stalls
from mirrorfarm.limits import MILLISECOND_NS

MS = MILLISECOND_NS


def test_noise_of_the_scheduler_is_no_stall() -> None:
    assert Stalls(100 * MS).notice(1_000 * MS, 1_050 * MS) == 0
    assert Stalls(10 * MS).notice(1_000 * MS, 1_019 * MS) == 0


def test_many_late_timers_tell_of_one_stall() -> None:
    stalls = Stalls(100 * MS)
    assert stalls.notice(1_000 * MS, 1_300 * MS) == 300 * MS
    assert stalls.notice(1_100 * MS, 1_301 * MS) == 0
    assert stalls.recent(1_400 * MS, 200 * MS)
    assert not stalls.recent(1_502 * MS, 200 * MS)
    assert stalls.notice(1_400 * MS, 1_500 * MS) == 100 * MS
