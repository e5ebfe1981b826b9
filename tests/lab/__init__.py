"""What the end-to-end tests stand on: an engine, images made here, compose, and how to wait."""
