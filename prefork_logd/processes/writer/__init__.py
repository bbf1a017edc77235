"""The process that owns the output files."""
