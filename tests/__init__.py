"""Tests of Relink."""
