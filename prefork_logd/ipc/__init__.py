"""Carries messages, batches and counters between our processes, and questions from the command line.

Owns the form and the delivery of each. Does not know what the receiver does with them.
"""
