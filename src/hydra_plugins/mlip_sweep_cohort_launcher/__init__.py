"""Lets Hydra find the launcher that trains the runs of a multirun together."""
