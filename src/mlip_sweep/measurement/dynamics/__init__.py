"""Molecular dynamics of many replicas at once, and the time until they fail."""
