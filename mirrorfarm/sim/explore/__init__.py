"""Every run of a two-node mirror with a witness, up to a bound: the real cores, no seeds.

A run is a choice, at each moment, of what happens next: a message or a disk's answer arrives, a
timer goes off, or one of a bounded number of disturbances. Within a moment all orders are
walked; time goes on when nothing is left that could arrive. States that differ only in absolute
times and in running numbers are the same state.
"""
