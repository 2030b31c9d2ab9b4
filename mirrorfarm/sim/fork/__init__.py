"""A simulated cluster that goes on from a moment of a recorded one: what if.

The cores begin with their recorded states; what was under way between them, timers, messages and
orders, is found in the steps before. From there on the simulator's models answer them, with delays
that were seen in the recording.
"""
