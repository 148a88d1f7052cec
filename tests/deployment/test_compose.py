"""The team's set-up, as far as it can be checked without an engine: its rules, and that its commands are understood."""

import re
import subprocess
import sys

import pytest
import yaml
from mlflow.cli import cli as mlflow
from samples import ROOT

DOCKER = ROOT / "docker"
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
DOCKERFILE = (DOCKER / "Dockerfile").read_text()
EXAMPLE = dict(
    line.split("=", 1) for line in (DOCKER / ".env.example").read_text().splitlines() if line and line[0] != "#"
)
VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?P<how>:?[-?])?(?P<text>[^}]*)\}")
SECRET = re.compile(r"PASSWORD|SECRET|KEY")


def told(text: str) -> str:
    """A line of the compose file as compose reads it, with the values of .env.example."""
    return VARIABLE.sub(lambda found: EXAMPLE.get(found["name"]) or found["text"], str(text))


def strings(node) -> list[str]:
    """Every text in a part of the compose file."""
    if isinstance(node, dict):
        return [text for value in node.values() for text in strings(value)]
    if isinstance(node, list):
        return [text for value in node for text in strings(value)]
    return [str(node)]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_tells_its_health_or_ends_by_itself(name):
    once = SERVICES[name]["restart"].startswith("on-failure")
    assert once != ("healthcheck" in SERVICES[name])


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_waits_for_is_ready_and_not_only_started(name):
    for needed, how in SERVICES[name].get("depends_on", {}).items():
        once = SERVICES[needed]["restart"].startswith("on-failure")
        assert how["condition"] == ("service_completed_successfully" if once else "service_healthy")


@pytest.mark.parametrize("name", SERVICES)
def test_secrets_come_from_outside_and_compose_refuses_to_start_without_them(name):
    for key, value in SERVICES[name].get("environment", {}).items():
        if SECRET.search(key):
            found = VARIABLE.fullmatch(value)
            assert found, f"{key} is written out"
            assert found["how"] == ":?", f"{key} has a default"
    assert not SECRET.search(" ".join(strings(SERVICES[name].get("command", []))))


def test_the_example_has_every_variable_and_no_password():
    named = {found["name"] for text in strings(COMPOSE) for found in VARIABLE.finditer(text)}
    required = {found["name"] for text in strings(COMPOSE) for found in VARIABLE.finditer(text) if found["how"] == ":?"}
    assert set(EXAMPLE) == named
    assert {name for name, value in EXAMPLE.items() if not value} == required


def test_images_have_versions():
    images = [service["image"] for service in SERVICES.values() if "build" not in service]
    images += re.findall(r"^FROM (\S+:\S+)", DOCKERFILE, re.MULTILINE)
    images = [
        image.replace("${PYTHON}", re.search(r"^ARG PYTHON=(\S+)", DOCKERFILE, re.MULTILINE)[1]) for image in images
    ]
    assert len(images) >= 5
    for image in images:
        assert re.search(r":v?\d+\.\d+", image), image


def test_networks_and_volumes_are_declared():
    for service in SERVICES.values():
        assert set(service.get("networks", [])) <= set(COMPOSE["networks"])
        named = {volume.partition(":")[0] for volume in service.get("volumes", []) if volume[0] not in "./"}
        assert named <= set(COMPOSE["volumes"])


def test_the_object_store_is_reached_by_mlflow_alone_and_nothing_is_open_to_the_world():
    beside = {name for name, service in SERVICES.items() if "objects" in service.get("networks", [])}
    assert beside == {"objects", "bucket", "mlflow"}
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert {name: told(port) for name, (port,) in ports.items()} == {"mlflow": "127.0.0.1:5000:5000"}


def test_our_images_run_as_a_user_and_hold_what_they_are_built_from():
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]
    stages = {stage.splitlines()[0].split(" AS ")[1]: stage for stage in stages}
    for name in {service["build"]["target"] for service in SERVICES.values() if "build" in service}:
        users = re.findall(r"^USER (\S+)", stages[name], re.MULTILINE)
        assert users == ["1000"]
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignore
    copied = {
        source for line in re.findall(r"^COPY ((?!--).+)$", DOCKERFILE, re.MULTILINE) for source in line.split()[:-1]
    }
    for source in copied:
        assert f"!{source}" in ignore
        assert (ROOT / source).exists()


def test_mlflow_knows_the_options_of_its_server():
    program, command, *options = map(told, SERVICES["mlflow"]["command"])
    assert program == "mlflow"
    with mlflow.commands[command].make_context(command, options) as context:
        given = context.params
    assert given["app_name"] == "basic-auth"
    assert given["serve_artifacts"]
    assert given["artifacts_destination"] == f"s3://{SERVICES['bucket']['environment']['MLFLOW_BUCKET']}"
    assert "*" not in given["allowed_hosts"].split(",")
    server = SERVICES["worker"]["environment"]["MLFLOW_TRACKING_URI"].removeprefix("http://")
    assert server in given["allowed_hosts"].split(",")


def test_the_workers_command_composes(tmp_path):
    assert 'ENTRYPOINT ["mlip-sweep"]' in DOCKERFILE
    environment = {key: told(value) for key, value in SERVICES["worker"]["environment"].items()}
    command = [sys.executable, "-c", "from mlip_sweep.cli import sweep; sweep()"]
    done = subprocess.run(
        [*command, *map(told, SERVICES["worker"]["command"]), "--cfg", "all", "--resolve"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    config = yaml.safe_load(done.stdout)
    assert config["tracking"]["uri"] == "http://mlflow:5000"
    assert config["hydra"]["sweeper"]["n_trials"] == int(EXAMPLE["TRIALS"])
    assert config["hydra"]["sweeper"]["n_jobs"] == 1
    assert config["hydra"]["sweeper"]["storage"].startswith("postgresql+psycopg://optuna@database/")
    assert not config["hydra"]["sweep"]["dir"].startswith("/")  # in /sweep, which all workers share
