"""What runs came by: states × events, faults × states, what must happen sometimes.

Percentages of lines say little about a protocol: a cell that no run ever hits is a row of
docs/protocols/mirror.md that nobody tried.
"""
