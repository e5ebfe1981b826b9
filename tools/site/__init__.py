"""The documentation site: what of it is generated, and what is run to show its output."""
