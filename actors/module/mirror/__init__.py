"""The mirror: two nodes, one of them runs the application."""
