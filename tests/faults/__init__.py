"""Faults of every kind on a live network, in a random order, and what has to hold then."""
