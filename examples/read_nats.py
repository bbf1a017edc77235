"""Print each record of a NATS stream that prefork-logd publishes to, once and in order, whatever format its store has.

    python examples/read_nats.py nats://127.0.0.1:4222 'logs.>'

Needs nats-py and zstandard, and nothing of prefork-logd: docs/nats.md says what the messages mean. It ends when it has
printed what is there.
"""

import asyncio
import heapq
import sys
import zlib

import nats
import zstandard
from nats.js.api import AckPolicy, ConsumerConfig

UNPACK = {"none": bytes, "zstd": zstandard.ZstdDecompressor().decompress, "deflate": zlib.decompress}


class Journal:
    """One collector's records, in the order of their numbers."""

    def __init__(self):
        self.next = None
        self.held = []

    def take(self, first, end, floor, records):
        """Yield the lines whose turn it is now; `records` are pairs of a number and a line."""
        if self.next is None:
            self.next = min(first, floor)
        heapq.heappush(self.held, (first, end, records))
        while self.held:
            first, end, records = self.held[0]
            if first > self.next:
                # What is below the floor and has not come was removed by the stream's limits.
                self.next = max(self.next, min(first, floor))
                if first > self.next:
                    return
            heapq.heappop(self.held)
            yield from (line for number, line in records if number >= self.next)
            self.next = max(self.next, end)


def numbered(headers, first, lines):
    """Pair each line with its number."""
    runs = headers.get("Prefork-Logd-Numbers")
    if runs is None:
        return list(zip(range(first, first + len(lines)), lines, strict=True))
    pairs = (run.split("+") for run in runs.split(",") if run)
    numbers = [int(start) + index for start, count in pairs for index in range(int(count))]
    return list(zip(numbers, lines, strict=True))


async def main(server, subject):
    client = await nats.connect(server)
    options = ConsumerConfig(ack_policy=AckPolicy.NONE, inactive_threshold=60)
    subscription = await client.jetstream().pull_subscribe(subject, stream="LOGS", config=options)
    journals = {}
    left = (await subscription.consumer_info()).num_pending
    while left:
        for message in await subscription.fetch(min(left, 100), timeout=5):
            left = message.metadata.num_pending
            version, journal, first, end, floor, encoding = message.headers["Prefork-Logd"].split(" ")
            if version != "1":
                sys.exit(f"messages of version {version} are not known")
            lines = UNPACK[encoding](message.data).splitlines()
            # In the format "json" the last number of a message is its record's.
            at = int(end) - 1 if encoding == "none" and len(lines) == 1 else int(first)
            records = numbered(message.headers, at, lines)
            for line in journals.setdefault(journal, Journal()).take(int(first), int(end), int(floor), records):
                sys.stdout.buffer.write(line + b"\n")
    await client.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
