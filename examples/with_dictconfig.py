"""Logging configured by a dict, as most services do it: the collector beside the console."""

import logging
import logging.config
import os

HOST, _, PORT = os.environ.get("PREFORK_LOGD_ADDRESS", "127.0.0.1:9020").rpartition(":")

LOGGING = {
    "version": 1,
    # Loggers that modules have made while they were imported go on working.
    "disable_existing_loggers": False,
    "formatters": {"short": {"format": "%(levelname)s %(name)s: %(message)s"}},
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "short", "level": "WARNING"},
        "collector": {"class": "logging.handlers.SocketHandler", "host": HOST, "port": int(PORT)},
    },
    "root": {"level": "INFO", "handlers": ["console", "collector"]},
    # The collector filters too, by level and by logger, for each of its outputs: what need not travel is stopped here.
    "loggers": {"shop.noisy": {"level": "ERROR"}},
}


def main() -> None:
    logging.config.dictConfig(LOGGING)
    logging.getLogger("shop.stock").info("counted", extra={"items": {"apples": 7, "pears": 0}})
    logging.getLogger("shop.noisy").warning("stays here")
    logging.getLogger("shop.stock").warning("pears are sold out")


if __name__ == "__main__":
    main()
