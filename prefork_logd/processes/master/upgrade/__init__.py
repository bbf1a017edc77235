"""A master that becomes the newly installed program."""
