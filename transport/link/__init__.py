"""One peer on the bus."""
