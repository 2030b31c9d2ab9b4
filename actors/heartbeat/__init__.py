"""Is the peer alive, on each network."""
