"""The report: one file that asks nobody, whatever the texts in it are."""

from dataclasses import replace
from html.parser import HTMLParser

from mirrorfarm.sim.running import Moment
from mirrorfarm.sim.sweeps.pictures import MOMENTS_MAX, timeline
from mirrorfarm.sim.sweeps.report import NOTHING_ELSE, Worst, render
from mirrorfarm.sim.sweeps.summary import summarize
from tests.sim.sweeps.stand_in import quick

HOSTILE = '</style></title><script>alert("1")</script><img src=http://x.example/y> \x00\ud800&amp;'


class Page(HTMLParser):
    """Collects elements, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def page_of(count: int) -> Page:
    results = [quick("mirror", seed) for seed in range(count)]
    summary = summarize(results, count, "mirror", "b")
    moments = [
        Moment(0, "n1", "state", "leading"),
        Moment(5, "n1", "fault", "crash n1"),
        Moment(9, "", "violation", "S3: lost"),
    ]
    assert summary.worst is not None
    return Page(render(summary, Worst(summary.worst, moments), missing=2))


def test_everything_that_was_promised_is_in_it() -> None:
    page = page_of(100)
    headings = [
        "Sweep of 100 seeds",
        "2 classes of failures",
        "Failover time",
        "Faults injected",
        "Growth",
    ]
    assert all(heading in page.words for heading in headings)
    assert any(words.startswith("The worst run: seed ") for words in page.words)
    assert "10 of 100 failed" in page.words
    assert "Of this sweep, 2 seeds are without a result yet." in page.words
    assert page.tags.count("svg") == 5
    assert {"fault", "violation"} <= {value for key, value in page.attributes if key == "class"}


def test_it_asks_nobody() -> None:
    page = page_of(100)
    assert ("content", NOTHING_ELSE) in page.attributes
    assert not {"script", "img", "link", "iframe", "a", "base"} & set(page.tags)
    assert not [
        key for key, _ in page.attributes if key in {"src", "href", "style"} or key[:2] == "on"
    ]
    assert not [value for _, value in page.attributes if value and "//" in value]


def test_hostile_text_stays_text() -> None:
    result = replace(
        quick("mirror", 3),
        message=HOSTILE,
        signature=HOSTILE,
        invariant=HOSTILE,
        options=HOSTILE,
        faults={HOSTILE: 2},
    )
    summary = summarize([result], 1, HOSTILE, HOSTILE)
    moments = [Moment(0, HOSTILE, "state", HOSTILE), Moment(1, HOSTILE, "fault", HOSTILE)]
    text = render(summary, Worst(result, moments))
    page = Page(text)
    assert not {"script", "img"} & set(page.tags)
    shown = HOSTILE.replace("\x00", "\ufffd").replace("\ud800", "\ufffd")
    assert any(shown in words for words in page.words)
    text.encode("utf-8")


def test_a_sweep_without_anything_has_a_report() -> None:
    page = Page(render(summarize([], 0, "mirror", "b"), None))
    assert "No failover was recorded." in page.words
    assert "No fault was injected." in page.words
    assert "Nothing was played" in page.words


def test_the_picture_of_a_long_run_shows_its_end() -> None:
    """And what a node was that changed for the last time before."""
    second, count = 1_000_000_000, 3 * MOMENTS_MAX
    moments = [
        Moment(0, "n2", "state", "following"),
        *(Moment(n * second, "n1", "state", f"phase{n % 2}") for n in range(count)),
        Moment(count * second, "", "violation", "S3: lost"),
    ]
    drawn = "".join(timeline("a run", moments, count * second).itertext())
    begin = f"{count - MOMENTS_MAX + 1}.000 s"
    assert f"{count}.000 s: S3: lost" in drawn
    assert f"n1 phase1, {count - 1}.000 s to {count}.000 s" in drawn
    assert f"n2 following, {begin} to {count}.000 s" in drawn
    assert "n1 phase1, 1.000 s" not in drawn
