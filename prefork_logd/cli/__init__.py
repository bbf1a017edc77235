"""Runs the command line: a file for each verb, and for each form in which answers are printed.

Does not know how anything is done: a verb calls the rooms below, or asks the running collector.
"""
