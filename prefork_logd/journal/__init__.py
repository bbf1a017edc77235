"""Keeps the commits, the position of each session, and the records that wait for stores.

Owns the commit point: what holds after a crash. Does not know the content of a line, outputs or stores.
"""
