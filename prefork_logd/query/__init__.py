"""Finds stored records: the conditions, what each means, and how a search reads a store or a file.

Does not know databases or how answers are printed.
"""
