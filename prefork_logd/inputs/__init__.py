"""Protocols as pure functions of bytes."""
