"""The same by prefork-logd's own handler: what is logged is kept until the collector has committed it."""

import logging
import logging.config
import os

HOST, _, PORT = os.environ.get("PREFORK_LOGD_ADDRESS", "127.0.0.1:9020").rpartition(":")

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {
        # Only the class differs from with_dictconfig.py. At limit_bytes of records that are not acknowledged, the
        # oldest are dropped, which the collector then logs.
        "collector": {
            "class": "prefork_logd.handlers.SocketHandler",
            "host": HOST,
            "port": int(PORT),
            "overflow": "drop_old",
            "limit_bytes": 16 * 1024 * 1024,
        },
    },
    "root": {"level": "INFO", "handlers": ["collector"]},
}


def main() -> None:
    logging.config.dictConfig(LOGGING)
    logging.getLogger("shop.stock").info("counted", extra={"items": {"apples": 7, "pears": 0}})
    # A lock cannot be pickled: the standard library's handler drops such a record, this one sends the lock as its text.
    logging.getLogger("shop.stock").warning("pears are sold out", extra={"lock": logging.lastResort.lock})


if __name__ == "__main__":
    main()
