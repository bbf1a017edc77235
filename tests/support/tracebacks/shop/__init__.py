"""An application's package, with code of its own."""


def in_package():
    """Raise in the module of a package itself."""
    raise ValueError("in a package")
