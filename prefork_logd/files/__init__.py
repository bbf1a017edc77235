"""Output files: written, rotated, compressed."""
