"""Received bytes become finished lines."""
