"""Scenarios: what happens to a simulated cluster, as a short file that anybody can read."""
