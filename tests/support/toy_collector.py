"""Runs the command line of a collector that has toy_store.py: python -m tests.support.toy_collector VERB ..."""

from __future__ import annotations

import sys

from prefork_logd.__main__ import main
from prefork_logd.config.stores.kinds import KINDS
from tests.support.toy_store import ROW

if __name__ == "__main__":
    KINDS[ROW.type] = ROW
    sys.exit(main())
