"""Runs the collector: a folder for each process.

A process owns its turn, its timers and its end; everything else is a function that it calls. Only master/ imports the
other processes, for it forks them.
"""
