"""The import of models from other programs, and the export to them."""
