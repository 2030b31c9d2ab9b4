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
REQUEST_CHARACTERS_MAX: Final = 256  # The command line uses 16.
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
UNDER_WAY: Final = -1  # Number of an answer that is none yet: the plane still works on its wish.
WISHES_MAX: Final = 1 << 32  # To a data plane, of one process of its module.
# A node counts its starts from the time of day (seconds) at the first one, or from this number,
# should a clock be set far ahead (or it be 2037): what is made of it must fit into a message.
FIRST_INCARNATION_MAX: Final = (1 << 31) - (1 << 24)
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
UNFLUSHED_MAX: Final = 64  # Flushes that a secondary confirmed before they were done.
DIRECTORIES_MAX: Final = 32

# The farm. 1024 buckets divide 16 nodes to within 2 %, and a table is one small update.
BUCKETS: Final = 1_024
GROUPS_MAX: Final = 8  # Load-balancing groups of a module: tables of buckets in the filter.
VIRTUAL_ADDRESSES_MAX: Final = 15  # Of a module: the filter compares them one by one.
RULES_PER_ADDRESS_MAX: Final = 16
CASCADE_RATIO: Final = 64  # At most 1/64 of the strongest power: no traffic, as in the reference.
# The filter in the kernel looks at the clock once per tick: at most so late it sees a lease end.
LEASE_TICK_NS: Final = 10 * MILLISECOND_NS
# What a filter reads of a packet, from its IP header on: 40 bytes of IPv6, extensions, 20 of TCP.
PACKET_HEAD_BYTES_MAX: Final = 256
EXTENSION_HEADERS_MAX: Final = 8
SMALL_FARM_NODES_MAX: Final = 8  # A farm with more beats half as often.
FARM_NODES_MAX: Final = 16  # Fits a bitmap of two bytes; heartbeats grow with its square.
RECIPIENTS_MAX: Final = FARM_NODES_MAX  # Of one frame.
BEATS_REMEMBERED: Final = 32  # Own heartbeats that an echo can refer to: over three seconds.
# What is said again, every half pulse, is not said more often than a filter looks at the clock.
FARM_PULSE_NS_MIN: Final = 2 * LEASE_TICK_NS
# Pulses without a heartbeat that are a silence: two lost ones are none, and a lease ends while
# the heartbeats that it rests on are still remembered.
SLOST_COUNT_MIN: Final = 3
SLOST_COUNT_MAX: Final = 28
DEPARTURES_MAX: Final = 16
POWER_MAX: Final = 1_000_000

assert BUCKETS & (BUCKETS - 1) == 0, "a bucket is the low bits of a hash"
assert (FIRST_INCARNATION_MAX + (1 << 24)) * WISHES_MAX <= 1 << 63, "numbers of wishes have 63 bits"
assert SLOST_COUNT_MAX + 3 <= BEATS_REMEMBERED - 1, "a lease ends 2.5 pulses behind a silence"

# Delivery of a farm's address. A network of a /20 may ask; each is told when its node changes.
ASKERS_MAX: Final = 4_096
# Neighbours forget, switches are exchanged: what is true is said again.
ANNOUNCE_EVERY_NS: Final = 30 * SECOND_NS

# A lease in nftables is counted in ticks of the kernel: at 100 per second it may last one more.
LEASE_ROUNDING_NS: Final = 10 * MILLISECOND_NS
# A renewal takes 0.3 ms, where others have thousands of rules 3 ms: the lease is made shorter by
# so much, and by more where it takes more. Slower than the second is not a filter any more.
LEASE_SLACK_MIN_NS: Final = 5 * MILLISECOND_NS
LEASE_SLACK_MAX_NS: Final = 50 * MILLISECOND_NS
# Flows whose verdict the kernel remembers in mode `nfqueue`. All are forgotten when a bucket
# moves, at 0.6 microseconds each: with so many a move still takes less than 50 ms.
REMEMBERED_FLOWS_MAX: Final = 65_536
REMEMBER_SECONDS: Final = 30
# A queue that is full drops: enough for a burst of new flows, not for seconds of stale ones.
QUEUED_PACKETS_MAX: Final = 8_192
QUEUE_SOCKET_BYTES: Final = 16 * 1_048_576

# The check of a farm's network. A node that hears no more of it ends its part by itself.
CHECK_SILENT_NS: Final = 15 * SECOND_NS
CHECK_LASTS_NS: Final = 120 * SECOND_NS
CHECK_SIZE_MAX: Final = 9_216  # The largest frame that is tried: a jumbo frame.
CHECK_SIZES_MAX: Final = 4
CHECK_ROWS_MAX: Final = 8_192  # Kinds of frames that are counted: senders, targets, sizes.
CHECK_CLAIMS_MAX: Final = 256
CHECK_ORDER_NS: Final = 10 * SECOND_NS  # What one order to a node may take.
