"""What a Celery worker does with the module beside this one, without Celery."""

import logging
import os

from collector_logging import add_collector, reconnect

POOL_PROCESSES = 2


def print_invoice() -> None:
    raise RuntimeError("the printer is offline")


def work(number: int) -> None:
    """Be one process of the pool: run a task."""
    reconnect()
    logger = logging.getLogger("celery.task.shop.invoice")
    task = {"task_name": "shop.invoice", "task_id": f"task-{number}"}
    logger.info("started", extra=task)
    try:
        print_invoice()
    except RuntimeError as error:
        # Exceptions and other objects may be attached: they are stored as text or as data.
        logger.warning("retry in %d s", 30, extra={**task, "cause": error}, exc_info=True)
    logger.info("succeeded", extra={**task, "runtime_s": 0.25})


def main() -> None:
    task_logger = logging.getLogger("celery.task")
    task_logger.propagate = False
    for logger in (logging.getLogger(), task_logger):
        logger.setLevel(logging.INFO)
        add_collector(logger=logger)
    logging.getLogger("celery.worker").info("ready")
    task_logger.info("tasks: %s", "shop.invoice")
    pids = []
    for number in range(POOL_PROCESSES):
        pid = os.fork()
        if not pid:
            work(number)
            logging.shutdown()
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
