"""The web page over run folders: `residuum serve`."""
