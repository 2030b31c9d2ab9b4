"""How nodes talk: addresses, messages, bytes, sockets, traces."""
