"""Acknowledged sessions."""
