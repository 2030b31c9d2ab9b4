"""Sites in cores where a simulation plays tricks."""

from pathlib import Path

from mirrorfarm.actors import sites

ACTORS = Path(sites.__file__).parent


def test_nobody_plays_tricks_unless_a_simulation_does() -> None:
    asked: list[str] = []

    def always(name: str) -> bool:
        asked.append(name)
        return True

    assert not sites.trick("heartbeat.skip_pulse")
    sites.play(always)
    try:
        assert sites.trick("heartbeat.skip_pulse")
    finally:
        sites.play(None)
    assert not sites.trick("heartbeat.skip_pulse")
    assert asked == ["heartbeat.skip_pulse"]


def test_every_site_is_somewhere() -> None:
    texts = "".join(path.read_text() for path in ACTORS.rglob("*.py") if path.name != "sites.py")
    for name in sites.NAMES:
        assert texts.count(f'sites.trick("{name}")') == 1
