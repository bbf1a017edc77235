"""The operating system: our log, signals, users, files, processes."""
