"""Training and evaluation of live objects. Knows no RunConfig: what it needs is handed to it."""
