"""Values whose type this build does not know, with the names that a trace gives their fields."""

from typing import Any, Final

# Of simulations; older recordings do not name them in their headers.
OLDER: Final = {
    "AppRuns": ["module", "runs"],
    "VipIs": ["module", "up"],
    "RecordGone": ["module"],
    "RegisterGone": ["module"],
    "Invoked": ["write", "extent"],
    "Told": ["write", "extent", "term"],
    "Failed": ["write", "extent"],
    "Wrote": ["extent", "write", "term", "sid"],
    "Kept": ["extent", "write"],
}


class Named(list[Any]):
    """Plain values whose type this build does not know, its name first; `fields` name the others.

    What only a simulation saw is such a value, and what a newer version recorded.
    """

    __slots__ = ("fields",)

    def __init__(self, values: list[Any], fields: list[str]) -> None:
        super().__init__(values)
        self.fields = fields

    def named(self) -> dict[str, Any]:
        """Return the values by their names; one that the header names not has a number."""
        rest = [str(number) for number in range(len(self.fields) + 1, len(self))]
        return dict(zip([*self.fields, *rest], self[1:], strict=False))


def fields_of(name: Any, types: Any) -> list[str] | None:
    """Return the names of a type's fields: those in `types` of a header, or of older simulations.

    None: the header tells none, or what it tells are no names.
    """
    if type(types) is not dict:
        return None
    fields: Any = types.get(name) or OLDER.get(name)
    known = type(fields) is list and all(type(one) is str and one.isidentifier() for one in fields)
    return fields if known else None
