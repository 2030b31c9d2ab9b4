"""What may be done to a register: the rules R4, R8 and R14, the same for every arbiter.

Whoever keeps a register asks `judge`; leases, evidence and storage are the keeper's own part.
Kept: S5 (promotion only from the set), S9 (a version is one more than the last), and that only
a member of the set changes anything, an administrator's force excepted.
"""

import re
from dataclasses import dataclass

import msgspec

from mirrorfarm.limits import NAME_PATTERN
from mirrorfarm.transport.messages import Register, RegisterCas

SET_MEMBERS_MAX = 2
NUMBER_MAX = 2**62  # Of terms and versions: a poisoned one must not overflow anything.
_NAME = re.compile(NAME_PATTERN)
_IDENTITY = re.compile(r"[0-9A-Za-z_-]{0,64}")


@dataclass(frozen=True, slots=True)
class Verdict:
    """`ok` with the register as it will be; else what to answer and why."""

    outcome: str  # ok conflict unset refused
    register: Register | None = None
    reason: str = ""


def judge(current: Register | None, sender: str, cas: RegisterCas) -> Verdict:
    """Return what becomes of `cas`, asked by node `sender`, if nobody else holds a lease."""
    wanted = cas.register
    fault = _shape_fault(wanted)
    if fault:
        return Verdict("refused", current, fault)
    if current is None:
        if cas.expected_ver:
            return Verdict("unset", None, "there is no register")
        return _created(sender, cas)
    if cas.expected_ver != current.ver:
        reason = f"version is {current.ver}, not {cas.expected_ver}"
        return Verdict("conflict", current, reason)
    if wanted.instance not in {"", current.instance}:
        return Verdict("refused", current, "the instance of a register never changes")
    if cas.forced:
        fault = _forced_fault(current, sender, wanted)
    elif sender not in current.isr:
        fault = f"{sender} is not in the in-sync set {_names(current.isr)}"
    elif wanted.term == current.term:
        fault = _same_term_fault(current, sender, wanted)
    elif wanted.term == current.term + 1:
        fault = _next_term_fault(current, sender, wanted)
    else:
        fault = f"term {wanted.term} does not follow term {current.term}"
    if fault:
        return Verdict("refused", current, fault)
    return Verdict("ok", result(current, cas))


def result(current: Register | None, cas: RegisterCas) -> Register:
    """Return the register that `cas` makes of `current` when it is granted."""
    instance = current.instance if current else cas.register.instance
    return msgspec.structs.replace(cas.register, ver=cas.expected_ver + 1, instance=instance)


def answers(register: Register, cas: RegisterCas) -> bool:
    """Return whether `register` is what `cas` asked for, whoever chose the instance."""
    instance = cas.register.instance or register.instance
    wanted = msgspec.structs.replace(cas.register, ver=cas.expected_ver + 1, instance=instance)
    return register == wanted


def _shape_fault(wanted: Register) -> str:
    if not 1 <= wanted.term <= NUMBER_MAX:
        return "the term is out of range"
    if not all(_NAME.fullmatch(name) for name in (wanted.holder, *wanted.isr)):
        return "a name is malformed"
    if not 1 <= len(wanted.isr) <= SET_MEMBERS_MAX:
        return f"the in-sync set has 1 to {SET_MEMBERS_MAX} members"
    if list(wanted.isr) != sorted(set(wanted.isr)):
        return "the in-sync set is not sorted"
    if not (_IDENTITY.fullmatch(wanted.gen) and _IDENTITY.fullmatch(wanted.instance)):
        return "the generation or the instance is malformed"
    return ""


def _created(sender: str, cas: RegisterCas) -> Verdict:
    """Judge a creation: only by the node that will hold it, with nobody else in the set.

    Its term exceeds 1 when an administrator seeds an arbiter anew that lost its register.
    """
    wanted = cas.register
    if wanted.holder != sender or wanted.isr != (sender,):
        return Verdict("refused", None, "a register is created by its holder, alone in the set")
    return Verdict("ok", result(None, cas))


def _same_term_fault(current: Register, sender: str, wanted: Register) -> str:
    """Within a term the holder decides; any other member may only leave the set (R12)."""
    if wanted.holder != current.holder:
        return "another holder needs a new term"
    if sender == current.holder:
        return ""
    others = tuple(name for name in current.isr if name != sender)
    if wanted.isr == others and wanted.gen == current.gen:
        return ""
    return f"{current.holder} holds term {current.term}"


def _next_term_fault(current: Register, sender: str, wanted: Register) -> str:
    """A new term: taken by the new holder, or given away by the present one (R8)."""
    if sender not in {wanted.holder, current.holder}:
        return "only the new or the present holder changes the holder"
    if wanted.holder not in current.isr:
        return f"{wanted.holder} is not in the in-sync set {_names(current.isr)}"
    if wanted.holder not in wanted.isr:
        return "the new holder must stay in the set"
    if not all(name in current.isr for name in wanted.isr):
        return "a change of holder never adds to the set"
    return ""


def _forced_fault(current: Register, sender: str, wanted: Register) -> str:
    """An administrator's override: the sender alone, in a term above every one known (R14)."""
    if wanted.holder != sender or wanted.isr != (sender,):
        return "a forced holder is the sender, alone in the set"
    if wanted.term <= current.term:
        return f"a forced term must exceed {current.term}"
    return ""


def _names(isr: tuple[str, ...]) -> str:
    return "{" + ", ".join(isr) + "}"
