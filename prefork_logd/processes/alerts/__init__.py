"""Runs the process of the alerts: a thread evaluates rules, and one for each receiver sends notices.

Does not know rules or receivers: the room alerts does.
"""
