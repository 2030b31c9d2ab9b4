"""Which of the three filters a node uses, with the reason in words for `state -v`.

`auto` takes the first that works here: `bpf` is the fastest, `nft` needs no program in the
kernel, `nfqueue` needs least of it. All nodes of a farm must come to the same, for they place
clients by different hashes; the farm compares.
"""

from collections.abc import Callable, Mapping
from ipaddress import ip_address
from pathlib import Path

from mirrorfarm.errors import SystemUnsuitable
from mirrorfarm.netfilter import nfqueue_rules, nft_rules
from mirrorfarm.netfilter.bpf import BpfFilter, program_name
from mirrorfarm.netfilter.bpf_program import FarmProgram, detach_all
from mirrorfarm.netfilter.bpf_system import Program, refusal
from mirrorfarm.netfilter.delivery import Delivery
from mirrorfarm.netfilter.filter import Choice, PacketFilter, Settings
from mirrorfarm.netfilter.libnftables import Nftables
from mirrorfarm.netfilter.nfqueue import NfqueueFilter, check_queue, remove_rules
from mirrorfarm.netfilter.nft import NftFilter, remove_tables
from mirrorfarm.netfilter.rules import rule

AUTO = "auto"
KINDS = ("bpf", "nft", "nfqueue")
# No module has a name that begins with a digit.
_PROBE = Settings(
    module="0probe",
    interfaces=("lo",),
    addresses=(ip_address("192.0.2.1"), ip_address("2001:db8::1")),
    rules=(rule("tcp", "on_port"), rule("udp", "on_addr")),
    seed=0,
)

Probe = Callable[[], None]


def choose(wanted: str, delivery: Delivery, probes: Mapping[str, Probe] | None = None) -> Choice:
    """Return the filter of this node; `wanted` is a word of userconfig.xml.

    Raises SystemUnsuitable, with every reason, if what is wanted cannot be had. `probes` raise
    it for one kind each; None: those of this system.
    """
    probes = _PROBES if probes is None else probes
    if wanted not in (AUTO, *KINDS):
        raise _unknown(wanted)
    if delivery is Delivery.NONE:  # Nodes of different systems go together then.
        kind = KINDS[0] if wanted == AUTO else wanted
        return Choice(kind, "not used: without a virtual address nothing is filtered")
    failed = []
    for kind in KINDS if wanted == AUTO else (wanted,):
        reason = _missing(kind, delivery, probes)
        if reason:
            failed.append(f"{kind}: {reason}")
        elif wanted != AUTO:
            return Choice(kind, "as configured")
        elif failed:
            return Choice(kind, f"the first that works here; {'; '.join(failed)}")
        else:
            return Choice(kind, "the fastest, and it works here")
    if wanted == AUTO:
        raise SystemUnsuitable(f"no farm filter works on this node: {'; '.join(failed)}")
    raise SystemUnsuitable(f"the farm filter is configured, but {failed[0]}")


def make(kind: str, ledger: Path) -> PacketFilter:
    """Return a filter that is not open yet; `ledger`: the node's file of kernel parameters."""
    match kind:
        case "bpf":
            return BpfFilter()
        case "nft":
            return NftFilter(ledger)
        case "nfqueue":
            return NfqueueFilter(ledger)
        case _:
            raise _unknown(kind)


def remove_left(kind: str, module: str) -> None:
    """Take a module's filter out of the kernel that a process left which is gone.

    The virtual addresses must be off this node before. Raises SystemUnsuitable or OSError.
    """
    match kind:
        case "bpf":
            detach_all(program_name(module))
        case "nft":
            remove_tables(module)
        case "nfqueue":
            remove_rules(module)
        case _:
            raise _unknown(kind)


def probe_bpf() -> None:
    """Let the kernel check the program, and look it up as one that is left; nothing is attached."""
    loaded = FarmProgram.load()
    try:
        Program.find(loaded.program.identity()[0]).close()
    except OSError as error:
        raise SystemUnsuitable(refusal(error)) from error
    finally:
        loaded.close()


def probe_nft() -> None:
    """Make the rules and delete them in the same transaction: no packet ever meets them."""
    _probe_rules(nft_rules.rule_set(_PROBE))


def probe_nfqueue() -> None:
    """Do the same with its own rules, which hash nothing, and bind a queue for a moment."""
    _probe_rules(nfqueue_rules.rule_set(_PROBE))
    check_queue()


def _probe_rules(rules: str) -> None:
    tables = Nftables()
    try:
        tables.run(rules + nft_rules.removal(_PROBE.module))
    except OSError as error:
        raise SystemUnsuitable(f"the kernel refuses the rules: {error}") from error
    finally:
        tables.close()


_PROBES: Mapping[str, Probe] = {"bpf": probe_bpf, "nft": probe_nft, "nfqueue": probe_nfqueue}


def _missing(kind: str, delivery: Delivery, probes: Mapping[str, Probe]) -> str:
    """Return why a kind cannot be used; empty: it can."""
    if delivery is Delivery.DIRECTED and kind != "bpf":
        return "it cannot relay to the owner, which vmac_directed needs; use bpf or another type"
    try:
        probes[kind]()
    except SystemUnsuitable as error:
        return str(error)
    return ""


def _unknown(kind: str) -> SystemUnsuitable:
    return SystemUnsuitable(f"there is no filter {kind!r}: use one of {', '.join((AUTO, *KINDS))}")
