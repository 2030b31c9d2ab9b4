"""The state machines of modules."""
