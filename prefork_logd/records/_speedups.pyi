from collections.abc import Callable, Sequence
from mmap import mmap
from typing import Any

ABI: int

class Lines:
    @property
    def count(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def place(self) -> int: ...
    def __len__(self) -> int: ...
    def append(self, line: bytes) -> None: ...
    def joined(self) -> memoryview: ...

def share(memory: mmap | memoryview | bytearray | None) -> None: ...

class Core:
    def __init__(
        self,
        outputs: Sequence[tuple[Sequence[Any] | None, int, Sequence[str]]],
        stores: Sequence[tuple[int, Sequence[str]]] = (),
        ships: bool = False,
    ) -> None: ...
    @property
    def capable(self) -> bool: ...
    def lines(self, frame: bytes, peer: str, received: float) -> list[bytes | None] | None: ...
    def run(
        self,
        data: bytes | bytearray | memoryview,
        start: int,
        stop: int,
        count: int,
        max_bytes: int,
        peer: str,
        received: float,
        sinks: tuple[Any, ...],
        slow: Callable[[bytes], int],
        most_bytes: int,
        failures: int,
        most_failures: int,
    ) -> tuple[int, int, int, int, list[tuple[int, int]]]: ...

def float_text(value: float, as_json: bool) -> bytes: ...
def measure(data: memoryview, start: int, stop: int, count: int, max_bytes: int) -> tuple[int, int]: ...
