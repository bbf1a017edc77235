from collections.abc import Callable
from typing import Any

ABI: int

class Copier:
    def __init__(
        self, site: Callable[[tuple[Any, ...]], bytes], origin: Callable[[tuple[Any, ...]], bytes]
    ) -> None: ...
    def copy(
        self, lines: bytes, start: int, most: int, number: int, day: int, part: int, low: float, high: float
    ) -> tuple[bytes, int, int]: ...

def json_rows(
    lines: bytes, number: int, slow: Callable[[bytes, int], tuple[bytes, float] | None]
) -> tuple[bytes, list[tuple[int, int, int]]]: ...
def error_lines(lines: bytes) -> list[tuple[int, bytes]]: ...
