"""The whole state of a core as plain values, and back: what a checkpoint in a trace holds.

A core is a dataclass whose fields are typed: integers, words, enums, records of msgspec, other
such dataclasses, and lists, tuples, mappings and deques of these. Anything else is refused with
TypeError when its class is first seen, so that no state is silently left out. Types are never
looked up by a name that was read: the class of the core is given, the rest follows from hints.
"""

import types
from collections import deque
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import msgspec

from mirrorfarm.modules.settings import Module

T = TypeVar("T")
# What a core asked for in its last step: emptied at the beginning of the next one.
TRANSIENT = "out"
_WORDS = (bool, int, str, bytes, type(None))


class _Codec(NamedTuple):
    """How values of one type become plain ones, and how those become values again."""

    plain: Callable[[Any], Any]
    value: Callable[[Any], Any]


def take(core: object) -> dict[str, Any]:
    """Return the state of a core as plain values, by the names of its fields."""
    kind: Any = type(core)
    state: dict[str, Any] = _codec(kind).plain(core)
    return state


def restore(kind: type[T], state: Any) -> T:
    """Return a core of class `kind` with the state that `take` returned.

    A field that is missing gets its default. Raise ValueError if `state` is not one of `kind`.
    """
    try:
        core: T = _codec(cast("Any", kind)).value(state)
    except (TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
        raise ValueError(f"not a state of {kind.__name__}: {error}") from error
    return core


@lru_cache(maxsize=1_024)
def _codec(hint: Any) -> _Codec:
    origin = get_origin(hint)
    if isinstance(hint, type) and is_dataclass(hint):
        return _of_dataclass(hint)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _Codec(lambda one: one.name, lambda plain: hint[plain])
    if origin in {Union, types.UnionType} and not _is_record(hint):
        return _of_optional(hint)
    if origin is dict:
        return _of_mapping(*get_args(hint))
    if origin in {list, deque}:
        return _of_row(origin, get_args(hint)[0])
    if origin is tuple and not _is_record(hint):
        raise TypeError(f"no plain form for {hint}")
    if _is_record(hint):
        return _of_record(hint)
    raise TypeError(f"no plain form for {hint}")


def _is_record(hint: Any) -> bool:
    """Return whether msgspec can check and build all of a type, and it is immutable."""
    if hint in _WORDS or hint is None:
        return True
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return True
    within = [one for one in get_args(hint) if one is not Ellipsis]
    immutable = get_origin(hint) in {tuple, Union, types.UnionType}
    return immutable and all(_is_record(one) for one in within)


def _of_record(hint: Any) -> _Codec:
    if hint is int:
        return _Codec(_plain_number, _number)
    if hint is Module:
        return _Codec(_public, lambda plain: msgspec.convert(plain, Module))
    return _Codec(
        lambda one: msgspec.to_builtins(one, builtin_types=(bytes,)),
        lambda plain: msgspec.convert(plain, hint),
    )


def _plain_number(number: int) -> int | str:
    """A bitmap of buckets has more bits than msgpack allows: those are written as text."""
    return number if -(1 << 63) <= number < 1 << 64 else hex(number)


def _number(plain: Any) -> int:
    if type(plain) is str:
        return int(plain, 16)
    number: int = msgspec.convert(plain, int)
    return number


def _public(module: Module) -> Any:
    """Leave out what only scripts are given: it may be a password, and no core reads it."""
    return msgspec.to_builtins(msgspec.structs.replace(module, variables=()))


def _of_optional(hint: Any) -> _Codec:
    within = [one for one in get_args(hint) if one is not type(None)]
    if len(within) != 1 or len(get_args(hint)) != 2:
        raise TypeError(f"no plain form for {hint}")
    plain, value = _codec(within[0])
    return _Codec(
        lambda one: None if one is None else plain(one),
        lambda one: None if one is None else value(one),
    )


def _of_mapping(key: Any, of: Any) -> _Codec:
    """As pairs: the order of insertion is state, and a key need not be a word."""
    of_key, of_value = _codec(key), _codec(of)
    return _Codec(
        lambda one: [[of_key.plain(k), of_value.plain(v)] for k, v in one.items()],
        lambda plain: {of_key.value(k): of_value.value(v) for k, v in _row(plain)},
    )


def _of_row(origin: Any, of: Any) -> _Codec:
    within = _codec(of)
    return _Codec(
        lambda one: [within.plain(part) for part in one],
        lambda plain: origin(within.value(part) for part in _row(plain)),
    )


def _row(plain: Any) -> list[Any]:
    if not isinstance(plain, list):
        raise TypeError(f"a list is expected, not {type(plain).__name__}")
    return plain


def _of_dataclass(kind: type) -> _Codec:
    hints = get_type_hints(kind)
    members = [one for one in fields(kind) if one.name != TRANSIENT]
    codecs = [(one.name, _codec(hints[one.name])) for one in members]
    known = {one.name for one in members}

    def plain(one: Any) -> dict[str, Any]:
        return {name: codec.plain(getattr(one, name)) for name, codec in codecs}

    def value(state: Any) -> Any:
        if not isinstance(state, dict) or not known >= state.keys():
            raise TypeError(f"fields of {kind.__name__} are expected: {', '.join(sorted(known))}")
        one: Any = object.__new__(kind)
        for field in fields(kind):
            if field.name in state:
                part = _codec(hints[field.name]).value(state[field.name])
                part = _bounded(field, part)
            else:
                part = _default(kind, field)
            object.__setattr__(one, field.name, part)  # Also where the class is frozen.
        return one

    return _Codec(plain, value)


def _default(kind: type, field: Field[Any]) -> Any:
    if field.default is not MISSING:
        return field.default
    if field.default_factory is not MISSING:
        return field.default_factory()
    raise TypeError(f"{kind.__name__}.{field.name} is missing")


def _bounded(field: Field[Any], part: Any) -> Any:
    """A deque's bound is not in its type: it is that of the default."""
    if isinstance(part, deque) and field.default_factory is not MISSING:
        return deque(part, field.default_factory().maxlen)
    return part
