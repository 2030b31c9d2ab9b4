"""The virtual addresses of a module."""
