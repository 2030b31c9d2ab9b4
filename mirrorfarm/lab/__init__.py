"""A whole cluster on one machine: for the demonstration, the live tests and the benchmarks.

Each node has network, process, mount and control-group namespaces of its own, so that killing
its first process ends everything on it, as a power cut does, while its disk stays.
"""
