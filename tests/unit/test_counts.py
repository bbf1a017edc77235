"""Numbers and their nouns: every text for people has "1 record" and "2 records", by format_count.

Only texts whose number is not a constant of the code are looked at: MOST_SEARCHES never is 1.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from prefork_logd.config.values import format_count

PACKAGE = Path(__file__).parents[2] / "prefork_logd"
NOUNS = (
    "attempts batches bytes characters clients columns commits conditions connections days digits errors "
    "events fields files frames groups incidents items keys lines listeners members messages minutes notices numbers "
    "opcodes outputs partitions places processes records replicas requests rows rules searches seconds segments "
    "servers services sessions statements stores streams tails terms times tokens users values versions warnings words "
    "workers"
).replace(" ", "|")
PLURAL = re.compile(rf"^ (?:[a-z]*[a-rt-z] )?(?:{NOUNS})\b(?!/s)")
IN_LOG_LINE = re.compile(rf"%[,.\d]*d (?:[a-z]*[a-rt-z] )?(?:{NOUNS})\b")
IN_SCRIPT = re.compile(rf"\$\{{(?!MOST|LEAST)[^{{}}]*\}} (?:[a-z]*[a-rt-z] )?(?:{NOUNS})\b")
CONSTANT = re.compile(r"_?[A-Z][A-Z_]+|\w+\.MOST\w*")
OWN_WORDS = {
    # The handlers stand alone and have a helper of their own (_compat.count_records).
    "handlers": "bytes|characters|records",
    # Parts of stored values, which the compiled core writes, too: docs/record.md promises their form.
    "records/values.py": "characters",
    "inputs/pickles/opcodes.py": "bytes|digits",
}


def texts_of(path: Path) -> list[str]:
    """Return the texts of a module that have a number before a plural."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.JoinedStr):
            for value, text in zip(node.values, node.values[1:], strict=False):
                if isinstance(value, ast.FormattedValue) and isinstance(text, ast.Constant):
                    number = ast.unparse(value.value)
                    if PLURAL.match(text.value) and not CONSTANT.fullmatch(number) and "format_count" not in number:
                        found.append(f"{{{number}}}{text.value}")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found += IN_LOG_LINE.findall(node.value)
    return found


def is_ours(path: Path, text: str) -> bool:
    """Return whether a text has to use format_count."""
    name = path.relative_to(PACKAGE).as_posix()
    return not any(name.startswith(start) and re.search(rf" ({nouns})\b", text) for start, nouns in OWN_WORDS.items())


def test_a_text_has_the_singular_for_one() -> None:
    """In every module of the package."""
    found = {
        f"{path.relative_to(PACKAGE)}: {text}"
        for path in PACKAGE.rglob("*.py")
        for text in texts_of(path)
        if is_ours(path, text)
    }
    assert found == set()


def test_the_page_has_the_singular_for_one() -> None:
    """In every script of the page."""
    found = {
        f"{path.name}: {text}"
        for path in (PACKAGE / "web" / "static").glob("*.js")
        for text in IN_SCRIPT.findall(path.read_text())
    }
    assert found == set()


@pytest.mark.parametrize(
    "source",
    [
        'f"removed {len(chosen)} files"',
        'f"there are {count:,} rules"',
        '"%d messages wait"',
        'f"{taken} stored records"',
    ],
)
def test_a_plural_is_found(tmp_path: Path, source: str) -> None:
    """The tests above would see a text with a number and a plural."""
    module = tmp_path / "module.py"
    module.write_text(source)
    assert texts_of(module)


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [(0, "file", "0 files"), (1, "file", "1 file"), (2, "open file", "2 open files"), (12_345, "byte", "12,345 bytes")],
)
def test_a_count_has_its_noun(number: int, noun: str, text: str) -> None:
    """The plural has an s, and thousands are separated."""
    assert format_count(number, noun) == text
