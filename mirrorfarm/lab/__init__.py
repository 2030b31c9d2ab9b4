"""A whole cluster on one machine: for the demonstration, the live tests and the benchmarks.

Each node has network, process, mount and control-group namespaces of its own, so that killing
its first process ends everything on it, as a power cut does, while its disk stays.

`network` lays out the namespaces of every lab and names them so that `cluster.sweep` finds what
a killed one left. `cluster` has whole nodes; with it `farm_web` runs the farm `web`,
`farm_traffic` is its client and counts, `farm_events` is what happens meanwhile. `farm` has the
filters of a farm without agents: any filter, `farm_daemon`, before a `farm_service`, and buckets
that are moved from outside.
"""
