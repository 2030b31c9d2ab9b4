"""Which node takes a packet."""
