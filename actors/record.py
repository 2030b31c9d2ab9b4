"""The durable record of one module on one node: what it must not forget across a crash."""

import msgspec


class NodeRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What docs/protocols/mirror.md calls `record`; written whole, in two slots."""

    cluster: str = ""
    module: str = ""
    node: str = ""
    counter: int = 0  # +1 for each writing; the newest valid slot wins.
    inc: int = 0  # Incarnation of the process that wrote it.
    os_boot: str = ""  # Kernel boot id when `was` became true (mirror), or at the last writing.
    ack_mode: str = "durable"  # durable received
    term: int = 0  # Highest term adopted; never goes back.
    sid: int = 0  # Highest session begun in `term`.
    gen_cur: str = ""
    gen_base: str = ""
    gen_hist: tuple[str, ...] = ()  # Ancestors, newest first.
    cons: bool = False  # False from before the first byte of a copy until its end is durable.
    was: str = "idle"  # idle second prim alone; set before the role's first effect.
    isr_seen: tuple[str, ...] = ()
    ver_seen: int = 0
    wit_instance: str = ""
    forced: tuple[str, ...] = ()  # Audit of operator overrides, newest first.
    wanted: bool = False  # Started by the administrator and not stopped since.
    lone: bool = False  # `gen_cur` was begun for writes that only this node has.
    given_up: tuple[str, ...] = ()  # Generations of the peer that a decision gave up, newest first.
    quarantine: str = ""  # Where a copy that has not ended yet sets aside what it replaces.
    from_memory: bool = False  # What it confirmed (ack_mode received) may not be on its disk yet.
    partial: str = ""  # Generation whose end this copy may lack: its source went on in it.
    promises: bool = True  # The peer may lead by what this node promised; new: False.
    promised_ns: int = 0  # For how long; 0: for one lease of the process that reads this.
    wanted_boot: str = ""  # Kernel boot id when `wanted` was told; empty: as `os_boot`.
