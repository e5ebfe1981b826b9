"""`mdc`: modes, which are directories, in; one compose project out. Knows nothing of networks."""
