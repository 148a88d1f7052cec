"""An asynchronous sweeper for Hydra over Optuna's ask and tell: resumable, and one trial's end costs no other trial.

A trial is one job of a Hydra multirun. `sweeper` holds the loop and `study` what is stored of it; `workers` and
`launchers` run the trials. A program that is swept needs only `reporting` (intermediate values, pruning) and `trials`
(what became of each trial). Those two import Optuna when they are called, not before; `config` and `liveness` do not.

Hydra imports every module of `hydra_plugins` at each start of each Hydra program, so that this library stands beside
that package: `hydra_plugins.optuna_async_sweeper` holds no more than the class that Hydra looks for.
"""
