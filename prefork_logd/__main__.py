"""Starts the command line, after a check of the Python version that an old Python can run."""

from __future__ import print_function

import gc
import os
import sys

NEEDED = (3, 11)


def open_standard_descriptors():  # type: () -> None
    """Open /dev/null in place of each of the descriptors 0 to 2 that is closed.

    Otherwise the next file that is opened gets its number, and messages for the terminal are written into that file.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            try:
                # open(2) returns the lowest free descriptor, which is this one.
                opened = os.open(os.devnull, os.O_RDWR)
            except OSError:
                # Without /dev (chroot): a write fails then, and harms no file.
                opened = os.open("/", os.O_RDONLY)
            if hasattr(os, "set_inheritable"):
                os.set_inheritable(opened, True)


def main():  # type: () -> int
    """Run the command line and return its exit status; on an older Python, where only the handler runs, fail."""
    open_standard_descriptors()
    if sys.version_info < NEEDED:
        print(
            "prefork-logd: the collector needs Python %d.%d or newer, this is %d.%d; "
            "only the logging handler works here" % (NEEDED + tuple(sys.version_info[:2])),
            file=sys.stderr,
        )
        return 1
    try:
        from prefork_logd.cli.main import main as run
    except ImportError as error:
        print(
            "prefork-logd: %s; install the package with its dependencies: "
            "pip install prefork-logd; in a checkout: pip install ." % error,
            file=sys.stderr,
        )
        return 1
    status = run()
    # Python looks for cycles once more at its end, which takes a tenth of the time of a quick verb.
    gc.freeze()
    return status


if __name__ == "__main__":
    sys.exit(main())
