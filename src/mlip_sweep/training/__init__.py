"""From a fresh potential to the weights that a run keeps."""
