"""The reference of the format, written from what is declared with each field and act.

`python -m mirrorfarm.sim.scenario.reference` prints it; docs/scenarios.md holds it.
"""

import dataclasses
import sys
from typing import Any

from mirrorfarm.sim.acts.act import Vocabulary
from mirrorfarm.sim.acts.kinds import MODULE
from mirrorfarm.sim.acts.processes import PROCESS
from mirrorfarm.sim.acts.vocabulary import FARM, MIRROR
from mirrorfarm.sim.scenario.record import Expectation, Farm, Mirror, Scenario, Wires


def reference() -> str:
    """Return the reference as Markdown."""
    parts = [
        "### The file\n\n" + _table(Scenario),
        "`mirror:` or `farm:`, `network:`, `events:` and `expect:` are described below.\n",
        "### mirror\n\n" + _about(Mirror) + _table(Mirror),
        "### farm\n\n" + _about(Farm) + _table(Farm),
        "### network (of a mirror)\n\n" + _about(Wires) + _table(Wires),
        "### expect\n\n" + _about(Expectation) + _table(Expectation),
        "### Events of a mirror\n\n" + _acts(MIRROR),
        "### Events of a farm\n\n" + _acts(FARM),
    ]
    return "\n".join(parts)


def _about(record: type[Any]) -> str:
    return f"{(record.__doc__ or '').strip()}\n\n"


def _table(record: type[Any]) -> str:
    lines = ["| Key | Value | Left out | |", "| --- | --- | --- | --- |"]
    for field in dataclasses.fields(record):
        if field.metadata:
            about = field.metadata["argument"]
            lines.append(
                f"| `{about.key}` | {about.kind.what} | {_default(field)} | {about.what} |"
            )
    return "\n".join(lines) + "\n"


def _default(field: Any) -> str:
    about = field.metadata["argument"]
    if field.default is dataclasses.MISSING:
        return "required"
    if field.default in ("", (), -1):
        return ""
    return f"`{about.kind.write(field.default)}`"


def _acts(vocabulary: Vocabulary) -> str:
    lines = ["| Event | What happens | Further keys |", "| --- | --- | --- |"]
    # Whatever was imported first: by their files, in these as they stand there.
    for name, act in sorted(vocabulary.acts.items(), key=lambda item: item[1].__module__):
        subject, more = "", []
        for field in sorted(dataclasses.fields(act), key=lambda field: bool(field.kw_only)):
            about = field.metadata["argument"]
            if about.kind in (MODULE, PROCESS) and vocabulary is FARM:
                continue  # There is only one of each.
            if not about.key:
                subject = about.kind.what
                continue
            default = _default(field)
            words = f"`{about.key}:` {about.kind.what}"
            words += f", {about.what}" if about.what else ""
            usual = default not in ("required", "", "`0 s`")
            more.append(words + (f" ({default})" if usual else ""))
        what = " ".join((act.__doc__ or "").split())
        lines.append(f"| `{name}:` {subject} | {what} | {'; '.join(more)} |")
    return "\n".join(lines).replace("n1 n2 | n3", "n1 n2 \\| n3") + "\n"


if __name__ == "__main__":
    sys.stdout.write(reference())
