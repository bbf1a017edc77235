"""A process that writes numbered records into a store for as long as it lives; started by tests, which kill it."""

from __future__ import annotations

import sys

from prefork_logd.stores.postgresql.store import PostgresqlStore
from tests.support.stores import block, numbered


def main() -> None:
    dsn, schema, journal = sys.argv[1:]
    store = PostgresqlStore(dsn, schema=schema)
    number = store.open(journal)
    print("writing", flush=True)
    while True:
        store.write([block(number, numbered(number, 400)), block(number + 400, numbered(number + 400, 100))], print)
        number += 500


if __name__ == "__main__":
    main()
