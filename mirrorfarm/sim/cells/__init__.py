"""A walk through the cells of the state machines: every event in every phase, step by step.

Chance rarely gives a state that lasts for milliseconds what is rare at any time. Here a cluster is
brought into each phase on purpose, is given each kind of event at a step of that phase, and must
be in service again once everything is mended, with all monitors watching.
"""
