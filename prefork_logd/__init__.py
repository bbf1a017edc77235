"""prefork-logd: the log collector for fleets of Python services."""

__version__ = "0.1.0"
