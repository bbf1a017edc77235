"""Finds outputs and stores that would write into one file, and so cut off each other's lines.

One file may have two names: one path twice, symbolic links, linked directories, hard links. Opens no file; one that
does not exist yet is judged by its resolved path. A path with fields leads to many files: it is compared as a pattern,
so that no value that a client sends can lead to the file of another output, or of the collector.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from prefork_logd.config import output_paths
from prefork_logd.config.output_paths import Field, Part, PathPattern
from prefork_logd.config.paths import JOURNAL_DIRECTORY, OWN_FILES, PAGE_DIRECTORY, dead_letters_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefork_logd.config.outputs import OutputSettings
    from prefork_logd.config.settings import Settings

_Name = str | tuple[int, int]
_Components = tuple[tuple[Part, ...], ...]


def problems(home: str, settings: Settings) -> Iterator[tuple[str, int, str]]:
    """Yield (table, index, sentence) for each output and store that would write into another's file.

    `home` is the directory of the collector's own files.
    """
    owners: dict[_Name, str] = {}
    for path, owner in _own(Path(home), settings):
        owners |= dict.fromkeys(_names(path), owner)
    for index, output in enumerate(settings.output):
        if output.has_fields:
            continue
        names = _names(output.file_path)
        what = next((owners[name] for name in names if name in owners), "") or _inside(home, settings, output.file_path)
        if what:
            yield "output", index, f"{what}; choose another"
        owners |= dict.fromkeys(names, f"is the file of output {output.name!r}")
    for index, store in enumerate(settings.store):
        names = [name for path in store.own_paths() for name in _names(path)]
        what = next((owners[name] for name in names if name in owners), "")
        if what:
            yield "store", index, f"{what.replace('file of output', 'file of')}; choose another"
        owners |= dict.fromkeys(names, f"is the file of {store.name!r}")
    yield from _pattern_problems(home, settings)


def _pattern_problems(home: str, settings: Settings) -> Iterator[tuple[str, int, str]]:
    """Yield the same for each output whose path has fields."""
    if not any(output.has_fields for output in settings.output):
        return
    taken: list[tuple[_Components, str]] = [
        (_literal(os.path.realpath(path)), what) for path, what in _own(Path(home), settings)
    ]
    for store in settings.store:
        for path in store.own_paths():
            # A store may put a date into the name, and add an ending.
            *above, (name,) = _literal(os.path.realpath(path))
            stem, suffix = os.path.splitext(str(name))  # noqa: PTH122 - of a name
            varied: tuple[Part, ...] = (stem, Field("date"), suffix, Field("date"))
            taken.append(((*above, varied), f"is a file of store {store.name!r}"))
    taken += [
        (_literal(os.path.realpath(output.file_path)), f"is the file of output {output.name!r}")
        for output in settings.output
        if not output.has_fields
    ]
    for index, output in enumerate(settings.output):
        if output.has_fields:
            components = _resolved(output)
            what = next((what for other, what in taken if output_paths.may_meet(components, other)), "")
            if what:
                why = what if what.endswith("the collector's own file") else f"it {what}"
                yield (
                    "output",
                    index,
                    f"some values of its fields lead to a file in use: {why}; choose another directory",
                )
            taken.append((components, f"is a file of output {output.name!r}"))


def _resolved(output: OutputSettings) -> _Components:
    """Return the parts of a path with fields, with symbolic links before the first one resolved."""
    pattern = PathPattern(output.path)
    return _literal(os.path.realpath(pattern.base)) + pattern.components


def _literal(path: str) -> _Components:
    return tuple((component,) for component in path.rstrip("/").split("/"))


def _own(state_dir: Path, settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield each file that must not be an output, and the message about an output that is."""
    for name in OWN_FILES:
        yield str(state_dir / name), f"{name} is the collector's own file"
    for store in settings.store:
        yield str(dead_letters_path(state_dir, store.name)), f"holds the dead letters of store {store.name!r}"
    for path in settings.errors.own_paths():
        yield path, "holds the groups of errors"
    if settings.server.keys_file:
        yield settings.server.keys_file, "is server.keys_file"
    if settings.path:
        yield str(Path(settings.path).absolute()), "is the configuration file"


def _inside(home: str, settings: Settings, path: str) -> str:
    """Return the message about an output among files that are made later: of the journal, the page or a store."""
    real = Path(os.path.realpath(path))
    for directory in (JOURNAL_DIRECTORY, PAGE_DIRECTORY):
        if Path(os.path.realpath(home)) / directory in real.parents:
            return f"{directory} is the collector's own directory"
    for store in settings.store:
        if store.is_own_file(real):
            return f"is a file of store {store.name!r}"
    return ""


def _names(path: str) -> list[_Name]:
    """Return the identifiers of a file: its path, its resolved path, and its inode; for a device only its path."""
    names: list[_Name] = [path]
    if "\0" in path:
        return names  # no path of a file; the settings say so
    try:
        found = Path(path).stat()
    except (OSError, ValueError):
        found = None
    if found is None or stat.S_ISREG(found.st_mode):
        names.append(os.path.realpath(path))
    if found is not None and stat.S_ISREG(found.st_mode):
        names.append((found.st_dev, found.st_ino))
    return names
