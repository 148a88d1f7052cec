"""What Hydra promises to the jobs of a multirun, whoever sweeps: numbers, folders, environment, config, callbacks."""

import json
import os
from pathlib import Path

import pytest
import seen_study
from omegaconf import OmegaConf

SPACE = ["x=choice(1,2)", "engine=choice(petrol,electric)", "+engine.new=interval(0,1)", "hydra/sweeper/sampler=random"]


@pytest.fixture
def seen(sweep, monkeypatch):
    """A function: overrides -> the study after them, and what its jobs have seen, in the order of their numbers."""
    OmegaConf.register_new_resolver("multiply", lambda a, b: a * b)  # forgotten with the others that the fixture hides
    monkeypatch.setenv("SEEN_COPIED", "copied")
    monkeypatch.setenv("SEEN_SWEEP", str(os.getpid()))

    def run(*overrides, name="seen"):
        study = sweep(*overrides, name=name, main=seen_study.main)
        facts = [json.loads(file.read_text()) for file in study.folder.rglob("seen.json")]
        return study, sorted(facts, key=lambda one: one["num"])

    return run


def test_every_job_gets_what_hydra_promises(seen, tmp_path):
    study, jobs = seen(*SPACE)
    assert study.code == 0, study.err
    assert [job["num"] for job in jobs] == [0, 1]
    assert [job["id"] for job in jobs] == ["seen_0", "seen_1"]
    for job, trial in zip(jobs, study.trials, strict=True):
        assert (job["mode"], job["job name"]) == ("RunMode.MULTIRUN", "seen")
        folder = study.folder / f"{trial.number}_{trial.params['engine']}"  # by hydra.sweep.subdir
        assert Path(job["folder"]) == Path(job["cwd"]) == folder
        assert Path(job["original cwd"]) == tmp_path
        typed = [f"{key}={trial.params[key]}" for key in ("x", "engine", "+engine.new")]
        assert job["overrides"] == typed
        assert OmegaConf.to_container(OmegaConf.load(folder / ".hydra" / "overrides.yaml")) == typed
        config = job["config"]
        assert config["doubled"] == 2 * trial.params["x"] == trial.value  # by a resolver of the program
        assert config["engine"]["name"] == trial.params["engine"]
        assert config["engine"]["new"] == trial.params["+engine.new"]
        assert config["answer"] == "42"
        assert config["name"] == ",".join(sorted(typed))
        assert job["env"] == ["42", "copied"]
        for name in ("config.yaml", "hydra.yaml"):
            assert (folder / ".hydra" / name).is_file()
    assert "SEEN_ANSWER" not in os.environ  # which is the jobs' only
    assert Path.cwd() == tmp_path
    assert (study.folder / "told").read_text().splitlines() == ["multirun_start True", "multirun_end True"]
    assert all(job["argv"][1] == "-m" for job in jobs)


def test_a_job_that_fails_is_told_and_leaves_its_config_behind(seen):
    study, jobs = seen("x=choice(1,2)", "fails=true", "hydra.sweep.subdir=job-${hydra.job.num}")
    assert study.code == 1
    assert "2 × error: ValueError: as it was told to" in study.err
    assert "Traceback" not in study.err
    assert len(jobs) == 2
    for number in range(2):
        assert OmegaConf.load(study.folder / f"job-{number}" / ".hydra" / "config.yaml").fails is True
    log = (study.folder / "job-0" / "seen.log").read_text()
    assert "trial 0: error: ValueError: as it was told to" in log
    assert "Traceback" in log  # where it belongs


def test_no_job_is_started_for_a_config_that_does_not_compose(seen):
    study, jobs = seen("absent=choice(1,2)")
    assert study.code == 1
    assert jobs == []
    assert "absent" in study.err
    assert "Traceback" not in study.err
