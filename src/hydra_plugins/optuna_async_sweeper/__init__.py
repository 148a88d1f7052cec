"""What Hydra finds of the library `optuna_async`: `hydra/sweeper=optuna_async`."""
