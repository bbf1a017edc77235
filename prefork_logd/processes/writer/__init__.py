"""Appends the workers' lines to the outputs and the journal, and commits them.

Owns the open outputs and the order of a commit. Does not know the content of a line.
"""
