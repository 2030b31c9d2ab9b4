"""Pictures as SVG: bars, a curve, the time line of a run. Colours are the page's classes."""

from collections.abc import Sequence
from dataclasses import replace

from mirrorfarm.limits import SECOND_NS
from mirrorfarm.sim.running import Moment
from mirrorfarm.sim.sweeps.markup import Element, tag

WIDTH = 900
LEFT = 180  # For names.
ROW = 24
PLOT_HEIGHT = 220
MARGIN = 40
LABEL_CHARACTERS = 26
COLOURS = 14  # Classes c0 to c13 of the page: a mirror has twelve phases, and may be down.
MOMENTS_MAX = 2_000  # Of a picture: more cannot be told apart.


def picture(name: str, height: float, *shapes: Element) -> Element:
    """Return a picture with a name that is read out where it cannot be seen."""
    box = f"0 0 {WIDTH} {height:g}"
    return tag("svg", *shapes, viewBox=box, role="img", aria_label=name)


def text(x: float, y: float, words: str, class_: str = "") -> Element:
    """Return a piece of text that begins at (x, y)."""
    return tag("text", words, x=f"{x:.1f}", y=f"{y:.1f}", class_=class_)


def bars(name: str, rows: Sequence[tuple[str, int]], class_: str = "c0") -> Element:
    """Return a horizontal bar for each (name, count)."""
    most = max((count for _, count in rows), default=1) or 1
    shapes = []
    for number, (label, count) in enumerate(rows):
        y = number * ROW
        width = (WIDTH - LEFT - 80) * count / most
        shapes += [
            text(LEFT - 8, y + 16, label[:LABEL_CHARACTERS], "end"),
            _box(LEFT, y + 4, width, ROW - 8, class_=class_, tip=f"{label}: {count:,}"),
            text(LEFT + width + 6, y + 16, f"{count:,}"),
        ]
    return picture(name, max(1, len(rows)) * ROW, *shapes)


def columns(name: str, bins: Sequence[tuple[str, int]]) -> Element:
    """Return a column for each bin of a distribution."""
    most = max((count for _, count in bins), default=1) or 1
    step = (WIDTH - 2 * MARGIN) / max(1, len(bins))
    base = PLOT_HEIGHT - MARGIN
    shapes = []
    for number, (label, count) in enumerate(bins):
        x, height = MARGIN + number * step, (base - 20) * count / most
        shapes.append(
            _box(x + 2, base - height, step - 4, height, class_="c0", tip=f"{label}: {count:,}"),
        )
        shapes.append(text(x + step / 2, base + 16, label, "middle"))
        if count:
            shapes.append(text(x + step / 2, base - height - 4, f"{count:,}", "middle"))
    return picture(name, PLOT_HEIGHT, *shapes)


def curve(name: str, points: Sequence[tuple[int, int]], across: str, upwards: str) -> Element:
    """Return a curve through points that grow in both directions, from the origin."""
    most_x = max((x for x, _ in points), default=1) or 1
    most_y = max((y for _, y in points), default=1) or 1
    base = PLOT_HEIGHT - MARGIN
    places = [
        (LEFT + (WIDTH - LEFT - MARGIN) * x / most_x, base - (base - 20) * y / most_y)
        for x, y in ((0, 0), *points)
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return picture(
        name,
        PLOT_HEIGHT,
        tag("polyline", points=f"{LEFT},20 {LEFT},{base} {WIDTH - MARGIN},{base}", class_="axis"),
        tag("polyline", points=line, class_="line"),
        text(LEFT - 8, 24, f"{most_y:,} {upwards}", "end"),
        text(LEFT - 8, base, "0", "end"),
        text(WIDTH - MARGIN, base + 18, f"{most_x:,} {across}", "end"),
    )


def timeline(name: str, moments: Sequence[Moment], end_ns: int) -> Element:
    """Return one lane for each node: its states as spans, faults as marks; time in seconds.

    Of a run with very many moments the last ones are shown: how it ended.
    """
    moments = _last(moments)
    begin_ns = min((moment.time_ns for moment in moments), default=0)
    lanes = sorted({moment.node for moment in moments})
    names = list(dict.fromkeys(m.text for m in moments if m.kind == "state"))
    colours = {state: f"c{number % COLOURS}" for number, state in enumerate(names)}
    scale = (WIDTH - LEFT - MARGIN) / max(1, end_ns - begin_ns)
    shapes = []
    for number, lane in enumerate(lanes):
        y = number * 2 * ROW
        own = [moment for moment in moments if moment.node == lane]
        shapes.append(text(LEFT - 8, y + 28, lane[:LABEL_CHARACTERS] or "cluster", "end"))
        states = [moment for moment in own if moment.kind == "state"]
        ends = [*(moment.time_ns for moment in states[1:]), end_ns]
        for moment, until in zip(states, ends, strict=False):
            x = LEFT + (moment.time_ns - begin_ns) * scale
            width = max(0.5, (until - moment.time_ns) * scale)
            tip = f"{lane} {moment.text}, {_seconds(moment.time_ns)} to {_seconds(until)}"
            shapes.append(_box(x, y + 12, width, ROW, class_=colours[moment.text], tip=tip))
        for moment in own:
            if moment.kind != "state":
                x = LEFT + (moment.time_ns - begin_ns) * scale
                tip = f"{_seconds(moment.time_ns)}: {moment.text}"
                shapes.append(_box(x - 1, y + 4, 2.5, ROW + 14, class_=moment.kind, tip=tip))
    height = len(lanes) * 2 * ROW
    shapes.append(text(LEFT, height + 16, _seconds(begin_ns)))
    shapes.append(text(WIDTH - MARGIN, height + 16, _seconds(end_ns), "end"))
    shapes += _legend(colours, height + ROW)
    return picture(name, height + ROW * (2 + len(colours) // 5), *shapes)


def _last(moments: Sequence[Moment]) -> Sequence[Moment]:
    """Return the last moments, and what every node was at the first of them."""
    if len(moments) <= MOMENTS_MAX:
        return moments
    earlier, last = moments[:-MOMENTS_MAX], moments[-MOMENTS_MAX:]
    states = {moment.node: moment for moment in earlier if moment.kind == "state"}
    return [*(replace(one, time_ns=last[0].time_ns) for one in states.values()), *last]


def _legend(colours: dict[str, str], top: float) -> list[Element]:
    shapes = []
    for number, (state, colour) in enumerate(colours.items()):
        x, y = number % 5 * (WIDTH // 5), top + number // 5 * ROW
        shapes += [
            _box(x, y + 4, 12, 12, class_=colour, tip=state),
            text(x + 18, y + 15, state[:24]),
        ]
    return shapes


def _box(x: float, y: float, width: float, height: float, *, class_: str, tip: str) -> Element:
    return tag(
        "rect",
        tag("title", tip),
        x=f"{x:.1f}",
        y=f"{y:.1f}",
        width=f"{width:.1f}",
        height=f"{height:.1f}",
        class_=class_,
    )


def _seconds(time_ns: int) -> str:
    return f"{time_ns / SECOND_NS:.3f} s"
