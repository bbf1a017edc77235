"""A module that fails while it is imported."""

raise LookupError("no settings")
