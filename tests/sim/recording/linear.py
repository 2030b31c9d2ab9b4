"""A small checker of linearizability, which shares nothing with what made the histories.

One register for each key, by the search of J. Wing and C. Gong, "Testing and Verifying Concurrent
Objects" (1993): take any operation that may be first, and see whether the rest has an order.
"""

import re
from dataclasses import dataclass
from pathlib import Path

LINE = re.compile(
    r"\{:index (\d+), :time \d+, :process (\d+), :type :(\w+), :f :(\w+), "
    r':value \[(\d+) (\d+|nil)\], :node "\w+"\}'
)
NEVER = 1 << 62


@dataclass(slots=True)
class Operation:
    reads: bool
    value: int
    begin: int
    end: int = NEVER  # It may take effect at any time, or not at all.


def registers(file: Path) -> dict[int, list[Operation]]:
    """Return the operations of a history in EDN, by key; what failed for sure is left out."""
    found: dict[int, list[Operation]] = {}
    open_: dict[int, tuple[int, Operation]] = {}
    for line in file.read_text().splitlines():
        match = LINE.fullmatch(line)
        assert match is not None, line
        index, process, key = int(match[1]), int(match[2]), int(match[5])
        value = 0 if match[6] == "nil" else int(match[6])
        if match[3] == "invoke":
            assert process not in open_, "a process does one thing at a time"
            open_[process] = key, Operation(match[4] == "read", value, index)
            found.setdefault(key, []).append(open_[process][1])
            continue
        if match[3] == "info":
            continue  # Its process does nothing more.
        _, operation = open_.pop(process)
        operation.value, operation.end = value, index
        if match[3] == "fail":
            found[key].remove(operation)
    return found


def is_linearizable(operations: list[Operation]) -> bool:
    """Return whether some order of the operations, and one of all registers, explains them."""
    seen: set[tuple[frozenset[int], int]] = set()
    stack = [(frozenset(range(len(operations))), 0)]
    while stack:
        left, value = stack.pop()
        ends = min((operations[one].end for one in left), default=NEVER)
        if ends == NEVER:
            return True  # What is left was never confirmed.
        if (left, value) in seen:
            continue
        seen.add((left, value))
        for one in left:
            operation = operations[one]
            if operation.begin > ends or (operation.reads and operation.value != value):
                continue
            stack.append((left - {one}, value if operation.reads else operation.value))
    return False


def broken_keys(file: Path) -> list[int]:
    """Return the keys whose operations no register explains."""
    return [key for key, row in registers(file).items() if not is_linearizable(row)]
