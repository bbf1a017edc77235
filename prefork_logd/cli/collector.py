"""Finds the running collector of a state directory and sends it questions.

Does not print answers.
"""

from __future__ import annotations

import contextlib
import getpass
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefork_logd.cli.app import complain
from prefork_logd.errors import ConfigError, ExitStatus, ProcessError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prefork_logd.cli.app import Flags
    from prefork_logd.config.load import ConfigSource
    from prefork_logd.config.settings import Settings
    from prefork_logd.system.running import Running

ANSWER_S = 20.0
"""Longest time that the master may take to answer a question."""
STATUS_S = 1.5
"""The same for `status`, which has to end soon when the collector hangs."""
HINT_S = 0.5
"""The same for a question whose answer is only a hint."""
UPGRADE_S = 60.0
"""Longest time of an upgrade; the master answers earlier than this (processes/master/upgrade/replacement.py)."""


def config_source(flags: Flags) -> ConfigSource:
    """Return the place from which a running collector reads its configuration again."""
    from prefork_logd.config.load import ConfigSource, absolute, find_file

    found = find_file(flags.config)
    # Symlinks are kept: a deployment may point them at another file before the next reload.
    return ConfigSource(Path(absolute(found)) if found else None, flags.overrides)


def lenient_settings(flags: Flags) -> Settings:
    """Return settings that lead to the running collector, even if the file has become invalid meanwhile.

    Raises ConfigError if the file no longer names its state directory: the default may lead to another collector.
    """
    from prefork_logd.config.load import find_file, is_readable, loads, state_dir_of

    try:
        return flags.load()
    except ConfigError:
        path = find_file(flags.config)
        if "state_dir" not in flags.overrides and not is_readable(path):
            raise
        return loads("", "", {"state_dir": state_dir_of(path) or "", **flags.overrides})


def find_running(settings: Settings) -> Running | None:
    """Return the collector of the state directory, None if none runs. Raises ProcessError if it is not certain."""
    from prefork_logd.system.running import find

    return find(Path(settings.server.state_dir))


def ask(settings: Settings, running: Running, question: str, longest_s: float, **details: int) -> dict[str, Any]:
    """Return the collector's answer. Raises ProcessError for an answer that is an error, or for none in time."""
    from prefork_logd.ipc import command_socket
    from prefork_logd.system.hanging import describe_family

    try:
        answer = command_socket.send_command(Path(settings.server.state_dir), question, longest_s, **details)
    except command_socket.NoAnswerError as error:
        raise ProcessError(f"{error}; {describe_family(running.pid)}") from error
    if "error" in answer:
        raise ProcessError(answer["error"])
    return answer


def complain_not_running(settings: Settings) -> int:
    """Print that no collector runs in the state directory, and return the exit status for that."""
    state_dir = settings.server.state_dir
    # The collector of a service manager has its own directory, in which a user other than root does not look.
    hint = "; name another with --state-dir" if _is_default(state_dir) else ""
    complain(f"not running (state directory {state_dir}){hint}")
    return ExitStatus.NOT_RUNNING


def warn_of_other_configuration(flags: Flags, settings: Settings) -> None:
    """Complain if the running collector has a configuration file, and this command has none: its stores may differ.

    The file is not read: whoever owns the state directory could choose a file for root. Also complain if this user has
    no state directory, and the system has one.
    """
    from prefork_logd.config.load import find_file
    from prefork_logd.records.render import escape_text

    path = ""
    if find_file(flags.config) is None:
        with contextlib.suppress(ProcessError):
            if running := find_running(settings):
                with contextlib.closing(running):
                    path = ask(settings, running, "status", HINT_S)["config"]
    if path:
        complain(f"this goes by the defaults, and the running collector by a file; give --config {escape_text(path)}")
    else:
        _warn_of_the_system_directory(settings.server.state_dir)


def _warn_of_the_system_directory(state_dir: str) -> None:
    from prefork_logd.config.paths import SYSTEM_STATE_DIR

    # lexists: the directory of a dynamic user is a link, and only root may follow it.
    if _is_default(state_dir) and not os.path.lexists(state_dir) and os.path.lexists(SYSTEM_STATE_DIR):
        complain(f"{state_dir} is not there; for the system's collector give --state-dir {SYSTEM_STATE_DIR}")


def _is_default(state_dir: str) -> bool:
    from prefork_logd.config.paths import default_state_dir

    with contextlib.suppress(ValueError):  # a user without a home directory has no default
        return state_dir == default_state_dir()
    return False


def find_address(flags: Flags) -> str:
    """Return the address to send to: one that a flag or the file names, else where the running collector listens.

    Raises ProcessError if there is none: another program may listen on the default address.
    """
    from prefork_logd.config.load import find_file, names_addresses

    settings = flags.load()
    tls_only = {address for address, listener in settings.tls_listeners.items() if listener.tls == "require"}
    plain = [listener for listener in settings.listeners if listener[0] not in tls_only]
    is_named = "bind" in flags.overrides or names_addresses(find_file(flags.config))
    if is_named and (address := choose_address(plain)):
        return address
    running = find_running(settings)
    if running is None:
        where = f"state directory {settings.server.state_dir}"
        raise ProcessError(f"not running ({where}); name an address with --to", ExitStatus.NOT_RUNNING)
    listening = ask(settings, running, "status", STATUS_S)["bind"]
    accepts, usual = dict(settings.listeners), settings.listeners[0][1]
    running_plain = [(address, accepts.get(address, usual)) for address in listening if address not in tls_only]
    if address := choose_address(running_plain):
        return address
    raise ProcessError(
        'no listener takes plain records; give one accept = "any" and no tls = "require", or send with our handler'
    )


def choose_address(listeners: Iterable[tuple[str, str]]) -> str:
    """Return the first of (address, accept) that takes plain frames and has a port; empty for none."""
    from prefork_logd.config.values import split_address

    for address, accept in listeners:
        place = split_address(address)
        if accept in ("any", "frames") and (isinstance(place, str) or place[1]):
            return address
    return ""


def user_name() -> str:
    """Return the name of the person who runs this, for the history of what people do."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def become_user(settings: Settings) -> None:
    """Change to the collector's user if root runs this, so that new files belong to that user. Raises ProcessError.

    Without server.user it is the owner of the pid file, or of the state directory: a service manager may start the
    collector as another user than root. Root would also follow a link that this user has put into the state directory.
    """
    from prefork_logd.config.paths import PID_FILE
    from prefork_logd.stores.registry import import_early
    from prefork_logd.system.privileges import become_owner, drop_privileges, find_owner, keep_reachable

    if os.geteuid() != 0:
        return
    state_dir = Path(settings.server.state_dir)
    owner = None if settings.server.user else find_owner(state_dir / PID_FILE, state_dir)
    if settings.server.user:
        import_early(settings.store)
        drop_privileges(settings.server.user)
    elif owner is not None:
        import_early(settings.store)
        keep_reachable(state_dir, owner)
        become_owner(owner)
