"""What users run: module templates, their configuration and packaging."""
