"""Replaces the running program by the newly installed one, under the same process id.

Owns the trial, the exec and what passes over it. Does not know how the collector works.
"""
