"""Where records end: which outputs take one, the files they are appended to, and how those rotate."""
