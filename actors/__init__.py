"""Who decides: one folder per concern, each with its pure core and its doors."""
