"""All matching records as a file, and as the command that prints them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import subprocess
from typing import TYPE_CHECKING

import duckdb
import httpx
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.cli.main import cli
from prefork_logd.errors import StoreError
from prefork_logd.records.csv_lines import csv_lines
from prefork_logd.stores.parquet import search as parquet_search
from prefork_logd.web.api import export
from prefork_logd.web.api.export import joined, quote
from tests.support.page import Anybody, Client, bounds, make_page, make_settings, seed, serving
from tests.support.page_records import ODD_LINES, lines
from tests.support.stores import NOW, line

if TYPE_CHECKING:
    from pathlib import Path

    from prefork_logd.config.settings import Settings


@pytest.mark.slow
def test_a_query_that_is_too_heavy_is_not_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records of one time cannot be read in parts: the answer says how to narrow the query, also that of `query`."""
    monkeypatch.setattr(parquet_search, "MEMORY_BYTES", 32 << 20)
    monkeypatch.setattr(parquet_search.engine, "spill_directory", lambda: None)
    made, chance = make_settings(tmp_path), random.Random(1)
    for first in range(0, 240, 10):
        seed(made, [line(msg=chance.randbytes(100_000).hex()) for _ in range(10)], first)

    async def main() -> None:
        async with serving(make_page(made)) as page:
            answer = await page.get("/export")
            assert answer.status_code == 422
            assert "retry-after" not in answer.headers
            assert "; ask for a shorter range of time, for fewer records" in answer.json()["error"]["message"]
            assert (await page.get("/export", params={"limit": 3})).text.count("\n") == 3
            url = str(page.base_url).removesuffix("/api/v1/")
            found = await asyncio.to_thread(CliRunner().invoke, cli, ["query", "--server", url])
            assert (found.exit_code, "; ask for a shorter range of time" in str(found.exception)) == (1, True)

    asyncio.run(main())


def test_lines_are_exported_byte_for_byte(client: Client) -> None:
    """All of them, in their order, with a name for the file."""
    answer = client.get("/export")
    assert answer.content == b"".join(lines())
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.headers["content-disposition"].startswith('attachment; filename="records-2')
    assert answer.headers["content-disposition"].endswith('.jsonl"')
    errors = client.get("/export", q="level>=ERROR", order="newest", limit=3).content
    assert errors == b"".join(lines()[number] for number in (110, 100, 90))


def test_odd_lines_are_exported_byte_for_byte(tmp_path: Path) -> None:
    """Large integers, lone surrogates and keys that occur twice, too."""
    settings = make_settings(tmp_path)
    seed(settings, ODD_LINES)
    with contextlib.closing(Client(make_page(settings))) as client:
        assert sorted(client.get("/export").content.splitlines(keepends=True)) == sorted(ODD_LINES)


def test_other_forms(client: Client, tmp_path: Path) -> None:
    """CSV is that of the command line; a Parquet file has the fields as columns."""
    assert client.get("/export", format="csv").content == b"".join(csv_lines(lines()))
    path = tmp_path / "export.parquet"
    path.write_bytes(client.get("/export", format="parquet", q="level>=ERROR").content)
    with duckdb.connect() as connection:
        found = connection.execute(f"SELECT created, levelno FROM read_parquet('{path}')").fetchall()
    assert found == [(NOW + number, 40) for number in range(0, 120, 10)]


def test_errors_come_before_the_file(client: Client) -> None:
    """They are answers like any other call's; an export of nothing is an empty file."""
    answer = client.get("/export", q="(a")
    assert answer.status_code == 400
    assert answer.json()["error"]["column"] == 1
    assert client.get("/export", store="other").status_code == 400
    assert client.get("/export", q="nothing").content == b""


def test_a_share_exports_its_records(settings: Settings) -> None:
    """And nothing else; the command is not for it."""
    backend = Anybody(("view",), bounds("level>=ERROR"))
    with contextlib.closing(Client(make_page(settings, backend))) as client:
        assert client.get("/export").content == b"".join(lines()[::10])
        assert client.get("/command").status_code == 403


def test_a_client_that_leaves_ends_the_export(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its place is free again at once."""
    monkeypatch.setattr(export, "PIECE_BYTES", 1)
    app = make_page(settings)

    async def main() -> None:
        async with serving(app) as client:
            for _ in range(5):
                async with client.stream("GET", "/export") as answer:
                    async for _piece in answer.aiter_raw(1):
                        break
            async with asyncio.timeout(30):
                assert (await client.get("/export")).content == b"".join(lines())

    asyncio.run(main())


def test_an_error_in_the_middle_is_noticed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection ends without the end of the answer."""

    def broken(_lines: object) -> object:
        yield b"x" * 100_000
        raise StoreError("the disk is gone")

    monkeypatch.setattr(export, "joined", broken)

    async def main() -> None:
        async with serving(make_page(settings)) as client:
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get("/export")

    monkeypatch.setattr(
        export, "StoreError", __import__("prefork_logd.errors", fromlist=["x"]).StoreError, raising=False
    )
    asyncio.run(main())


@given(st.lists(st.binary(max_size=50)))
def test_pieces_are_the_lines(some: list[bytes]) -> None:
    """Joined, and none empty unless all are."""
    assert b"".join(joined(some)) == b"".join(some)


@pytest.mark.slow
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"q": "level>=ERROR", "order": "oldest"},
        {"q": "-level>=ERROR", "limit": 7},
        {"q": 'message:"record 7 took"', "since": f"@{NOW}", "until": "2026-11-23T12:25:00", "tz": "Asia/Tokyo"},
        {"q": "it's OR $HOME OR `x` OR \\'y OR a\tb OR record\n", "store": "parquet"},
    ],
)
def test_the_command_prints_the_same_records(client: Client, params: dict[str, str]) -> None:
    """Byte for byte."""
    text = client.get("/command", format="json", **params).json()["command"]
    assert text.isprintable()
    script = f'prefork-logd() {{ printf "%s\\0" "$@"; }}; {text}'
    arguments = subprocess.run(["bash", "-c", script], capture_output=True, check=True).stdout.decode().split("\0")
    done = CliRunner().invoke(cli, arguments[:-1], catch_exceptions=False)
    want = client.get("/export", **{"order": "newest", **params}).content
    assert done.stdout_bytes == want
    assert want


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30))
def test_words_are_quoted_for_a_shell(word: str) -> None:
    """No control character is left in them."""
    assert quote(word).isprintable()


@pytest.mark.slow
def test_a_shell_reads_the_words_back() -> None:
    """Bash is asked for many at once."""
    words = ["", "a b", "it's", "\x1b[31m", "\n\t", "\\", "é\u202e\U0001f642", "\x7f1", "a'\x01'b", "$(x)", "\x9bc1"]
    done = subprocess.run(
        ["bash", "-c", 'printf "%s\\0" ' + " ".join(map(quote, words))],
        capture_output=True,
        check=True,
        env={"LC_ALL": "C.UTF-8"},
    )
    assert done.stdout.decode().split("\0")[:-1] == words


def test_what_a_command_cannot_have_is_refused(client: Client) -> None:
    """NUL ends a word; other errors are those of every call."""
    answer = client.get("/command", q="a\0b")
    assert answer.status_code == 400
    assert "NUL" in answer.json()["error"]["message"]
    assert client.get("/command", tz="Mars").status_code == 400
    assert client.get("/command", since="soon").json()["error"]["parameter"] == "since"
