"""Forks and watches the other processes; starts, reloads and stops the collector.

Owns signals, children and the configurations in use. Does not know records, outputs or clients' bytes.
"""
