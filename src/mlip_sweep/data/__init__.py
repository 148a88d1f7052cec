"""Labelled structures: read or computed, split, and turned into graphs."""
