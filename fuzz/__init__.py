"""Coverage-guided fuzzing of the native core under sanitizers: `python -m fuzz --help`."""
