"""The command line: one file per verb, and a file for each form in which answers are printed."""
