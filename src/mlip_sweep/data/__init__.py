"""Labelled structures: read, made, split, and turned into graphs."""
