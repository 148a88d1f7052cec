"""A Hydra sweeper over Optuna's ask and tell: asynchronous, resumable, and no trial takes another down.

Hydra imports every module of a plugin whose name has no leading underscore at every start; Optuna and all that is heavy
stay behind the underscore.
"""
