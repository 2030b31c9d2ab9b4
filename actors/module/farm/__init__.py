"""The farm: N nodes run the application; and the light module, one node that runs it."""
