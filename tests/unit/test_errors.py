"""A refusal of the host has a reason, and a remedy that fits the one who reads it."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from prefork_logd.errors import OutputError, describe_refusal, file_problem, file_reason, remedy_for
from prefork_logd.system.own_files import open_to_read

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.ELOOP, errno.EISDIR, errno.ENOTDIR, errno.EMFILE])
def test_a_remedy_is_the_same_for_a_command_and_the_collector(number: int) -> None:
    """Where it does not depend on who was refused; it stands in every form of the sentence."""
    error, why = OSError(number, os.strerror(number), "/x"), f"{os.strerror(number)}{remedy_for(number)}"
    assert remedy_for(number).startswith("; ")
    assert (describe_refusal(error), file_reason(number), file_problem(error)) == (why, why, f"/x: {why}")
    assert str(OutputError("/x", "open", error)) == f"/x: cannot open: {why}"


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.ENOENT])
def test_a_collector_cannot_use_another_account(number: int) -> None:
    """Nor does it name a file on its command line: the remedy is for the reader of its log."""
    assert file_reason(number) != f"{os.strerror(number)}{remedy_for(number)}"
    assert not file_reason(number).endswith(os.strerror(number))


def test_an_error_without_a_remedy_ends_with_its_reason() -> None:
    """Also one without a number."""
    assert file_reason(errno.EBADF) == os.strerror(errno.EBADF)
    assert file_problem(OSError("odd")) == describe_refusal(OSError("odd")) == "odd"


def test_a_link_in_the_place_of_an_own_file_is_called_one(tmp_path: Path) -> None:
    """The kernel's words, too many levels of symbolic links, mislead; the remedy is named."""
    link = tmp_path / "session.key"
    link.symlink_to("/etc/hostname")
    with pytest.raises(OSError, match="it is a link") as caught:
        open_to_read(link)
    words = "it is a link, which is neither read nor written; remove the link, or name a path without links"
    assert file_problem(caught.value) == f"{link}: {words}"
    link.unlink()
    os.mkfifo(link)
    with pytest.raises(OSError, match="it is not a regular file") as caught:
        open_to_read(link)
    assert file_problem(caught.value).endswith("neither read nor written; move away what is there")
