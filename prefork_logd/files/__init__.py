"""Writes and rotates output files, and reads their ends.

Owns appending whole batches, rotation, compression and removal. Does not know records or processes.
"""
