"""A script as Hydra's own launchers run it: it cannot be imported again, and its jobs pickle what it defines."""

import fcntl
import functools
import os
import pickle
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import Pool
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore

held = os.open("lock", os.O_WRONLY | os.O_CREAT)
fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises in a second process
table = list(range(100_000))  # more than the buffer of a pipe
guard = threading.Lock()


@dataclass
class Config:
    defaults: list = field(default_factory=lambda: ["_self_", {"override hydra/sweeper": "optuna_async"}])
    x: float = 2.0
    how: str = "plain"


class Point:
    def __init__(self, x):
        self.x = x


def guarded():
    with guard:
        return 1


def square(x):
    return x * x + len(table) - 100_000


@functools.cache
def cached(x):
    return square(x)


ConfigStore.instance().store("unguarded", node=Config)


@hydra.main(version_base=None, config_path=None, config_name="unguarded")
def main(cfg):
    assert Path(sys.argv[0]).name == "unguarded_study.py"
    match cfg.how:
        case "plain":
            return cached(cfg.x)
        case "pickle":
            assert pickle.loads(pickle.dumps(cached)) is cached
            return pickle.loads(pickle.dumps(Point(square(cfg.x)))).x
        case "pool":
            with Pool(1) as pool:
                return pool.map(square, [cfg.x])[0]
        case "executor":
            with ProcessPoolExecutor(1) as pool:
                return pool.submit(square, cfg.x).result()
        case "breakpoint":
            breakpoint()
        case "object":
            return lambda: Point(cfg.x)


main()
