"""The files that may touch the operating system, and what the tests of this folder allow.

A door performs what a core asks for and decides nothing about roles. Whoever adds one adds a
line here: that is the moment to ask whether it must be one.
"""

FOLDERS = ("actors", "transport", "netfilter", "modules")

# Files, and folders with a slash at the end, below the top of the project.
DOORS = (
    "actors/__init__.py",
    "actors/arbiter/loaded.py",
    "actors/arbiter/ping_door.py",
    "actors/arbiter/process.py",
    "actors/cgroup.py",
    "actors/checker/processes.py",
    "actors/doors.py",
    "actors/farm_filter/door.py",
    "actors/farm_filter/leftovers.py",
    "actors/farm_filter/places.py",
    "actors/farm_filter/sockets.py",
    "actors/farm_filter/translated.py",
    "actors/guard/client.py",
    "actors/guard/process.py",
    "actors/replicator/",
    "actors/scripts/output.py",
    "actors/scripts/program.py",
    "actors/scripts/runner.py",
    "actors/shell.py",
    "actors/slots.py",
    "actors/supervisor.py",
    "actors/timers.py",
    "actors/vip/addresses.py",
    "actors/vip/announce.py",
    "actors/vip/cables.py",
    "actors/vip/check.py",
    "actors/vip/connections.py",
    "actors/vip/door.py",
    "actors/vip/neighbour_entries.py",
    "actors/vip/probe.py",
    "actors/vip/routes.py",
    "actors/vip/shared.py",
    "modules/catalog.py",
    "modules/disk.py",
    "modules/install.py",
    "modules/package.py",
    "modules/suitability.py",
    "netfilter/announce.py",
    "netfilter/bpf.py",
    "netfilter/bpf_program.py",
    "netfilter/bpf_system.py",
    "netfilter/choice.py",
    "netfilter/lease.py",
    "netfilter/libnftables.py",
    "netfilter/nfnetlink.py",
    "netfilter/nfqueue.py",
    "netfilter/nft.py",
    "netfilter/sysctls.py",
    "transport/attachment.py",
    "transport/hoard.py",
    "transport/keys.py",
    "transport/sockets.py",
    "transport/waiting.py",
    "transport/topology.py",
    "transport/trace.py",
    "transport/trace_ring.py",
    "transport/zmq.py",
)

# Pure files inside a folder of doors.
PURE = (
    "actors/replicator/changes.py",
    "actors/replicator/core.py",
    "actors/replicator/exclusions.py",
    "actors/replicator/frames.py",
    "actors/replicator/fuse/protocol.py",
    "actors/replicator/journal.py",
    "actors/replicator/operations.py",
    "actors/replicator/questions.py",
)

# Scripts that modules ship: they run as programs of their own.
PROGRAMS = ("modules/*/bin/*.py",)

# What only a door imports. `collections.abc`, `dataclasses`, `PurePath` and the like are free.
WORLD = frozenset(
    (
        "asyncio",
        "ctypes",
        "datetime",
        "fcntl",
        "getpass",
        "glob",
        "http",
        "importlib",
        "io",
        "logging",
        "mmap",
        "multiprocessing",
        "netfilterqueue",
        "os",
        "pathlib",
        "platform",
        "psutil",
        "pwd",
        "pykka",
        "pyroute2",
        "queue",
        "random",
        "resource",
        "secrets",
        "select",
        "selectors",
        "shutil",
        "signal",
        "socket",
        "socketserver",
        "ssl",
        "structlog",
        "subprocess",
        "sys",
        "tempfile",
        "threading",
        "time",
        "urllib",
        "uuid",
        "zmq",
    )
)
# Names that a pure file may take from a module of WORLD, because they touch nothing.
HARMLESS = frozenset({"pathlib.PurePath", "pathlib.PurePosixPath", "importlib.resources.abc"})

# Sources (files or folders) whose tests are elsewhere than at their own place, and where.
TESTED_BY = {
    "actors/arbiter/": "tests/actors/arbiter/test_witness.py",
    "actors/farm_filter/": "tests/sim/test_farm_stories.py",
    "actors/module/farm/": "tests/actors/module/farm/test_core.py",
    "actors/module/mirror/": "tests/sim/test_stories.py",
    "actors/replicator/": "tests/live/test_replicator.py",
    "actors/replicator/fuse/": "tests/live/test_file_system.py",
    "actors/vip/": "tests/live/test_virtual_address.py",
    "actors/vip/check.py": "tests/live/test_farm_check.py",
    "actors/vip/neighbour_entries.py": "tests/live/test_farm_check.py",
    "actors/vip/shared.py": "tests/live/test_shared_address.py",
    "modules/": "tests/modules/test_userconfig.py",
    "actors/arbiter/loaded.py": "tests/live/test_demo.py",
    "actors/farm_filter/door.py": "tests/live/test_farm.py",
    "actors/arbiter/process.py": "tests/live/test_demo.py",
    "actors/shell.py": "tests/live/test_demo.py",
    "actors/supervisor.py": "tests/live/test_demo.py",
    "netfilter/announce.py": "tests/live/test_shared_address.py",
    "netfilter/bpf.py": "tests/live/test_bpf.py",
    "netfilter/bpf_program.py": "tests/live/test_bpf.py",
    "netfilter/bpf_system.py": "tests/live/test_bpf.py",
    "netfilter/finding": "tests/netfilter/test_verdicts.py",
    "netfilter/libnftables.py": "tests/live/test_farm_filter.py",
    "netfilter/nfnetlink.py": "tests/live/test_nft.py",
    "netfilter/nfqueue.py": "tests/live/test_farm_filter.py",
    "netfilter/nft.py": "tests/live/test_nft.py",
    "transport/address.py": "tests/transport/test_codec.py",
    "transport/sockets.py": "tests/transport/test_zmq.py",
    "transport/trace_ring.py": "tests/transport/test_trace.py",
}

# Sources without a test of their own, and why.
UNTESTED = {
    "actors/doors.py": "one line per effect; the live tests run all of them",
    "actors/effects.py": "records only",
    "actors/events.py": "records only",
    "actors/record.py": "records only",
    "modules/settings.py": "records only",
    "transport/messages.py": "records only; tests/transport/test_codec.py makes every one",
}

LINES_MAX = 400
TEST_LINES_MAX = 600
FUNCTION_LINES_MAX = 40  # Of the body, without signature and docstring.
# Files with a longer function, and why (60 at most).
LONG_FUNCTIONS = {
    "actors/module/farm/core.py": "one case for each event",
    "actors/module/farm/describe.py": "one line for each key",
}
# Longer files, and why (600 at most).
LONG = {
    "actors/events.py": "every event in one place: what a core can be told",
    "transport/messages.py": "every message in one place: what the wire can carry",
    "transport/zmq.py": "one loop that owns every socket of the bus",
}
