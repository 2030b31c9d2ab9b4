"""Watch the application and its surroundings."""
