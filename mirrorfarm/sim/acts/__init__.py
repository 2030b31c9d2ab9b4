"""What can be done to a simulated cluster: each act a frozen record with its arguments.

Swarms draw acts, scenario files list them, and a tape of a run is a list of them.
"""
