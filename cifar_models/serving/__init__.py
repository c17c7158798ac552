"""Exported models, in the formats that `export --format` offers."""
