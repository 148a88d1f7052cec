"""Recording of runs and models in MLflow, the only place that imports it."""
