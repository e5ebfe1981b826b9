"""Benchmarks on the real kernel; each figure beside a floor that a raw program sets."""
