"""Simulated runs as traces: written by the encoder and the files that production has."""
