"""Every bound and default, with its unit and its reason, and the relations between them."""

from typing import Final

Nanoseconds = int

MICROSECOND_NS: Final = 1_000
MILLISECOND_NS: Final = 1_000_000
SECOND_NS: Final = 1_000_000_000

# Names of nodes, modules, networks and actors: safe in paths, shells, logs and XML.
NAME_PATTERN: Final = r"[a-z][a-z0-9_-]{0,31}"
NAME_CHARACTERS_MAX: Final = 32

# The bus. A control message never needs more; a module package is the largest one.
FRAME_BYTES_MAX: Final = 1_048_576
FRAME_DEPTH_MAX: Final = 8
FRAME_ITEMS_MAX: Final = 4_096
QUEUE_MESSAGES_MAX: Final = 1_000
REPLAY_WINDOW_FRAMES: Final = 4_096
PEERS_MAX: Final = 64
NETWORKS_MAX: Final = 8
BUS_PORT: Final = 4_800
WITNESS_PORT: Final = 4_801
REPLICATION_PORT_FIRST: Final = 5_600  # + 4 (id - 1), as in the reference product.

# The clocks of two nodes run at rates that differ by less than this share: 10^-3.
CLOCK_RATE_ERROR_DIVISOR: Final = 1_000

# Protocol history and audit.
GENERATION_HISTORY_MAX: Final = 16
FORCED_AUDIT_MAX: Final = 16
FACTS_MAX: Final = 64  # The chain of facts that `why` tells.

LAST_WORDS_CHARACTERS_MAX: Final = 400  # Of a process that failed: one line of a table.

# Modules.
MODULES_MAX: Final = 256
MAXLOOP: Final = 3
LOOP_INTERVAL_NS: Final = 24 * 3_600 * SECOND_NS
STOP_TIMEOUT_NS: Final = 300 * SECOND_NS
START_TIMEOUT_NS: Final = 300 * SECOND_NS
SCRIPT_LOG_BYTES_MAX: Final = 2_048 * 1_024
PACKAGE_BYTES_MAX: Final = 768 * 1_024

# Replication.
ZONE_BYTES: Final = 65_536
STREAM_FRAME_BYTES_MAX: Final = 9 * 1_048_576
UNACKED_BYTES_MAX: Final = 64 * 1_048_576
UNACKED_FRAMES_MAX: Final = 10_000
DIRECTORIES_MAX: Final = 32
