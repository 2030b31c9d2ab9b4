"""Replicated directories: the mounted file system and its data plane."""
