"""A whole cluster in one thread: world, network, disk, monitors."""
