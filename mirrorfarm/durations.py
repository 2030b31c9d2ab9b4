"""A duration in words, the same wherever one is told."""

from mirrorfarm.limits import MILLISECOND_NS, SECOND_NS


def span(ns: int) -> str:
    """Return a duration as a person says it; each bound is where the smaller unit is rounded up."""
    if ns < 999_500:
        return f"{ns / 1_000:.0f} us"
    if ns < 999_950_000:
        return f"{ns / 1_000_000:.1f} ms"
    if ns < 119_995 * MILLISECOND_NS:
        return f"{ns / SECOND_NS:.2f} s"
    minutes, seconds = divmod(round(ns / SECOND_NS), 60)
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours} h {minutes_left} min" if hours else f"{minutes} min {seconds} s"
