"""From a seed that fails to the shortest scenario that fails the same way."""
