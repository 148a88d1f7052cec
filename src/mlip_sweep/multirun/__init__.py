"""A multirun as a whole: its parent run, the folder that its processes share, the names of its jobs, its best."""
