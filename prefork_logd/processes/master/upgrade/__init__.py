"""Replaces the running program by the newly installed one, under the same process id.

Owns the trial, the exec and the state that is passed on. Does not know how the collector works.
"""
