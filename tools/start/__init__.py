"""`relink-start`: the sidecar for containers outside compose. Knows engines, and no network."""
