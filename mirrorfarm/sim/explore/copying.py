"""Copies of cores: the mutable parts are copied, what is frozen is shared."""

import dataclasses
from collections import deque
from collections.abc import Callable
from typing import Any

_Copier = Callable[[Any], Any]
_copiers: dict[type, _Copier | None] = {}


def copy(value: Any) -> Any:
    """Return a copy that shares nothing mutable with `value`."""
    kind = type(value)
    try:
        copier = _copiers[kind]
    except KeyError:
        copier = _copiers[kind] = _copier_of(kind)
    return value if copier is None else copier(value)


def _copier_of(kind: type) -> _Copier | None:
    """Return how values of a type are copied; None: they are shared."""
    if kind is list:
        return lambda value: [copy(one) for one in value]
    if kind is dict:
        return lambda value: {key: copy(one) for key, one in value.items()}
    if kind is deque:
        return lambda value: deque(map(copy, value), value.maxlen)
    if dataclasses.is_dataclass(kind) and not kind.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        names = tuple(field.name for field in dataclasses.fields(kind))
        return lambda value: _copy_fields(kind, names, value)
    return None


def _copy_fields(kind: type, names: tuple[str, ...], value: Any) -> Any:
    made: Any = object.__new__(kind)
    for name in names:
        setattr(made, name, copy(getattr(value, name)))
    return made
