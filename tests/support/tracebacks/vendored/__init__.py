"""An installed package."""


def call(function, *arguments):
    """Call a function of the application."""
    return function(*arguments)


def refuse(value):
    """Raise in the package."""
    raise ValueError("refused %r" % (value,))


def caught():
    """Return an error that no application's code has seen."""
    try:
        refuse(1)
    except ValueError:
        import sys

        return sys.exc_info()
