"""Sends notices: by HTTP, by mail, or to a command.

Does not know incidents, or when a notice is due.
"""
