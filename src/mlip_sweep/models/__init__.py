"""Interatomic potentials behind one contract."""
