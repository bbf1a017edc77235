"""What travels between processes and machines, as pure functions of bytes: no socket, no clock, no file."""
