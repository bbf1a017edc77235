"""The command's entry: says plainly which Python the collector needs, before anything newer is read."""

from __future__ import print_function

import sys

NEEDED = (3, 11)


def main():  # type: () -> int
    """Run the command line; the handler alone works on older Pythons, the collector does not."""
    if sys.version_info < NEEDED:
        print(
            "prefork-logd: the collector needs Python %d.%d or newer, this is %d.%d; "
            "only the logging handler works here" % (NEEDED + tuple(sys.version_info[:2])),
            file=sys.stderr,
        )
        return 1
    try:
        from prefork_logd.cli import main as run
    except ImportError as error:
        print(
            "prefork-logd: %s; install the package with its dependencies: pip install prefork-logd" % error,
            file=sys.stderr,
        )
        return 1
    return run()


if __name__ == "__main__":
    sys.exit(main())
