"""Recorded runs side by side: statistics, tables, figures, and the published numbers."""
