"""The least there is: one handler of the standard library, and every logger reaches the collector."""

import logging
import logging.handlers
import os

ADDRESS = os.environ.get("PREFORK_LOGD_ADDRESS", "127.0.0.1:9020")


def main() -> None:
    host, _, port = ADDRESS.rpartition(":")
    handler = logging.handlers.SocketHandler(host, int(port))
    # A handler on the root logger serves all others. No formatter is needed: records travel as data.
    logging.basicConfig(level=logging.INFO, handlers=[handler])

    logger = logging.getLogger("shop.checkout")
    logger.info("order %d paid", 1042, extra={"order": 1042, "currency": "EUR"})
    try:
        {}["discount"]
    except KeyError:
        # The traceback travels with the record.
        logger.exception("no discount for order %d", 1042)


if __name__ == "__main__":
    main()
