"""One run: from its configuration to live objects, and what is done with its weights once it is trained."""
