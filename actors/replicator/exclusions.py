"""What of a replicated directory is not replicated: each node has its own of it.

An entry is excluded with all that lies below it. Whether it is depends on its name and its path
alone, so both nodes answer alike, and it stays as it is for the life of the entry: the file
system refuses with EXDEV every move that would change it (`mv` then copies).
"""

from collections.abc import Iterable

from mirrorfarm.modules.expressions import posix


class Exclusions:
    """The `<notreplicated>` elements of one directory.

    `paths` are relative to it. `regexes` are searched for in the name of each entry: one that
    matches is excluded; of those that begin with `!` one at least must match, else it is excluded.
    """

    def __init__(self, paths: Iterable[str] = (), regexes: Iterable[str] = ()) -> None:
        self.given = (tuple(paths), tuple(regexes))
        self._paths = frozenset(path.encode(errors="surrogateescape") for path in self.given[0])
        self._without = [posix(one) for one in self.given[1] if not one.startswith("!")]
        self._only = [posix(one[1:]) for one in self.given[1] if one.startswith("!")]

    def __bool__(self) -> bool:
        """Whether anything may be excluded."""
        return bool(self._paths or self._without or self._only)

    def excludes(self, parent: bytes, name: bytes) -> bool:
        """Whether `name` in the directory `parent` (b"": the root), not excluded, is excluded."""
        if self._paths and (parent + b"/" + name if parent else name) in self._paths:
            return True
        if not self._without and not self._only:
            return False
        text = name.decode(errors="surrogateescape")
        if any(one.search(text) for one in self._without):
            return True
        return bool(self._only) and not any(one.search(text) for one in self._only)

    def name_below(self, path: bytes) -> bool:
        """Whether a path below the directory `path` is excluded as such."""
        return any(one.startswith(path + b"/") for one in self._paths)

    @property
    def needs_paths(self) -> bool:
        """Whether `parent` matters to `excludes`."""
        return bool(self._paths)
