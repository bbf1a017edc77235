"""Sends a notice through a receiver of any type, and names the files of a receiver that cannot be used.

Owns the table of types. Does not know how a type sends.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from prefork_logd.alerts.receivers import command, forms, http, mail
from prefork_logd.alerts.receivers.failures import SendError, read_secret
from prefork_logd.config.receivers import CommandSettings, SmtpSettings, WebhookSettings, url_problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefork_logd.alerts.notices import Notice
    from prefork_logd.config.receivers import AnyReceiver


def send(receiver: AnyReceiver, notice: Notice) -> str:
    """Send a notice; return what the receiver has answered, for people. Raises SendError."""
    match receiver:
        case WebhookSettings():
            return _post(receiver, notice)
        case SmtpSettings():
            return mail.send(receiver, notice)
        case CommandSettings():
            return command.send(receiver, notice)


def unusable_parts(receiver: AnyReceiver) -> Iterator[str]:
    """Yield a sentence for each file of a secret, and for the program, that this process cannot use."""
    for field in receiver.__struct_fields__:
        path = getattr(receiver, field) if field.endswith("_file") else ""
        try:
            read_secret(path, "")
        except SendError as error:
            yield f"receiver {receiver.name!r}: {field}: {error}"
    if isinstance(receiver, CommandSettings) and shutil.which(receiver.command[0]) is None:
        yield f"receiver {receiver.name!r}: command: {receiver.command[0]}: is no program that can be run"


def _post(receiver: WebhookSettings, notice: Notice) -> str:
    url = read_secret(receiver.url_file, "") if receiver.url_file else receiver.url
    if url and (problem := url_problem(url)):
        raise SendError(f"{receiver.url_file}: {problem}")
    token = read_secret(receiver.token_file, receiver.token_env)
    headers = {"Content-Type": "application/json", "Idempotency-Key": notice.id}
    if token and receiver.form != "pagerduty":
        headers["Authorization"] = f"Bearer {token}"
    try:
        address, body = forms.body(receiver.form, notice, url, token, receiver.template)
        return http.post(address, body, headers, receiver.timeout_s, allow_private=receiver.allow_private)
    except ValueError as error:
        raise SendError(str(error)) from None
