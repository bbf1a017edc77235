"""Wraps the operating system: our log, signals, privileges, locks, disk and inotify.

Does not know records or what a setting means.
"""
