"""How our processes talk to each other."""
