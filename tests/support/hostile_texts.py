"""Texts that try to be more than text where they are shown."""

from __future__ import annotations

MARKUP = '<img src=x onerror="document.title=1;alert(1)"><script>alert(2)</script>'
TURNED = "invoice\u202egpj.exe\u2066\x1b[2J\x00\u200b"
