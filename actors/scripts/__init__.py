"""The scripts of a module, in their order."""
