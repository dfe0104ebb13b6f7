"""The deployment: docker-compose.yml is sound, and each of our services starts by its own command and is healthy by its
own check. No container engine is needed: commands and environment are taken from the file, with ports of this machine.
"""

import copy
import json
import re
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack
from importlib.resources import files
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from jsonschema import ValidationError
from jsonschema.validators import validator_for

from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines_tests.checkout import REPOSITORY, WEEK
from hf_pipelines_tests.running import CONFIGURED, LAUNCH, START_S, STATUS
from hf_pipelines_tests.servers import BIN, free_port, postgres_server, s3_server, serving, wait_until

OURS = ("code_server", "webserver", "daemon", "mlflow")
OTHERS = ("postgres", "minio", "create_bucket")

VARIABLE = re.compile(r"(?<!\$)\$\{([A-Z_]+)(:[-?])?([^}]*)\}")


def compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())
    return content


def texts(node: Any) -> list[str]:
    """Every string in a piece of YAML."""
    if isinstance(node, str):
        return [node]
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return [text for child in children for text in texts(child)]


def interpolated(text: str, environment: Mapping[str, str]) -> str:
    """A string as `docker compose` would pass it on."""

    def value(match: re.Match[str]) -> str:
        name, kind, rest = match.groups()
        given = environment.get(name, "")
        if not given and kind == ":?":
            raise ValueError(f"{name}: {rest}")
        return given or (rest if kind == ":-" else "")

    return VARIABLE.sub(value, text).replace("$$", "$")


def check_by_specification(content: Mapping[str, Any]) -> None:
    """Raise for what the published schema of compose files does not allow."""
    schema = json.loads((files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json").read_text())
    kind = validator_for(schema)
    kind.check_schema(schema)
    kind(schema).validate(content)


def test_compose_file_follows_the_published_schema() -> None:
    check_by_specification(compose())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("services", "webserver", "healthchek"), {"test": ["CMD", "true"]}),
        (("services", "webserver", "ports"), "127.0.0.1:3000:3000"),
        (("services", "webserver", "healthcheck", "start_peroid"), "60s"),
        (("services", "webserver", "depends_on", "postgres"), {"condition": "service_ready"}),
        (("volums",), {}),
    ],
    ids=["misspelt key", "ports no list", "misspelt key of a check", "unknown condition", "misspelt section"],
)
def test_compose_file_with_a_planted_fault_breaks_the_schema(path: tuple[str, ...], value: object) -> None:
    content = copy.deepcopy(compose())
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(ValidationError):
        check_by_specification(content)


@pytest.mark.parametrize("name", [*OURS, *OTHERS])
def test_compose_service_is_pinned_restarted_checked_and_closed_to_the_network(name: str) -> None:
    content = compose()
    service = content["services"][name]
    image, _, tag = service["image"].rpartition(":")
    assert image
    assert re.fullmatch(r"[\w.-]*\d[\w.-]*", tag), f"{name} has no fixed version: {service['image']}"
    # The one that makes the bucket ends by itself; all others come back after a crash or a reboot.
    assert service["restart"] == ("on-failure:5" if name == "create_bucket" else "unless-stopped")
    if name != "create_bucket":
        health = service["healthcheck"]
        assert set(health) == {"test", "interval", "timeout", "retries", "start_period"}
        assert health["test"][0] == "CMD"
        assert all(re.fullmatch(r"\d+(s|m)", health[each]) for each in ("interval", "timeout", "start_period"))
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    for other, rule in service.get("depends_on", {}).items():
        assert other in content["services"]
        assert rule["condition"] == "service_completed_successfully" or "healthcheck" in content["services"][other]
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        if source.startswith("./"):
            assert (REPOSITORY / source).is_file()
        else:
            assert source in content["volumes"]


def test_compose_holds_exactly_our_services_and_theirs() -> None:
    content = compose()
    assert set(content["services"]) == {*OURS, *OTHERS}
    assert {key for key in content if not key.startswith("x-")} == {"name", "services", "volumes"}
    mounted = {volume.split(":")[0] for each in content["services"].values() for volume in each.get("volumes", [])}
    assert set(content["volumes"]) == {source for source in mounted if not source.startswith("./")}


def test_compose_has_no_default_password_and_names_the_variable_that_is_missing() -> None:
    secret = re.compile(r"PASSWORD|SECRET|ACCESS_KEY|ROOT_USER")
    for name, service in compose()["services"].items():
        for key, value in service.get("environment", {}).items():
            if secret.search(key):
                match = VARIABLE.fullmatch(value)
                assert match, f"{name}: {key} is written out"
                assert match[2] == ":?", f"{name}: {key} has a default"
        # Where an address carries a password, it is a variable too.
        for text in texts(service):
            for password in re.findall(r"://[^:/@\s]+:(.*?)@", text):
                assert password.startswith("${POSTGRES_PASSWORD:?")
        # Arguments can be read by everyone on the machine.
        assert not any("PASSWORD:?" in text for text in texts(service.get("command", [])))
    with pytest.raises(ValueError, match="POSTGRES_PASSWORD: set it in .env"):
        interpolated(compose()["services"]["postgres"]["environment"]["POSTGRES_PASSWORD"], {})


def test_env_example_names_every_variable_of_the_compose_file_and_of_the_settings() -> None:
    example = (REPOSITORY / ".env.example").read_text()
    used = {match[0] for text in texts(compose()) for match in VARIABLE.findall(text)}
    settings = (REPOSITORY / "hf_pipelines" / "resources" / "settings.py").read_text()
    read = set(re.findall(r'environ(?:\.get)?[\[(]"([A-Z0-9_]+)"', settings))
    table = {
        name for row in re.findall(r"^\| ([A-Z][A-Z0-9_, ]+) \|", settings, re.MULTILINE) for name in row.split(", ")
    }
    assert read <= table
    used |= table
    # Beside settings.py only these name variables: Dagster's EnvVar, and the guard's hosts.
    elsewhere = {
        name
        for path in (REPOSITORY / "hf_pipelines").rglob("*.py")
        if "serving/s" not in str(path)
        for name in re.findall(
            r'(?:environ(?:\.get)?[\[(]|EnvVar\(|if_set\()"((?:HF|AWS)_[A-Z0-9_]+)"', path.read_text()
        )
    }
    assert {"AWS_SECRET_ACCESS_KEY", "HF_MLFLOW_URI", "HF_UI_HOSTS"} <= elsewhere <= table
    assert {"POSTGRES_PASSWORD", "MINIO_ROOT_PASSWORD", "HF_STORAGE_URI", "HF_POSTGRES_URL"} <= used
    assert {name for name in used if name not in example} == set()
    # A copy of it lets nobody in: what must be filled in is empty.
    filled = dict(line.split("=", 1) for line in example.splitlines() if line and not line.startswith("#"))
    assert filled == dict.fromkeys(["POSTGRES_PASSWORD", "MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD"], "")


def test_dockerfile_installs_from_constraints_and_copies_what_the_services_name() -> None:
    lines = (REPOSITORY / "Dockerfile").read_text()
    assert re.search(r"^FROM python:3\.11\.\d+-slim-\w+$", lines, re.MULTILINE)
    assert "pip install --no-cache-dir --constraint constraints.txt --editable '.[all]'" in lines
    assert re.search(r"^USER hf$", lines, re.MULTILINE)
    copied = {line.split()[1]: line.split()[-1] for line in lines.splitlines() if line.startswith("COPY")}
    assert copied["deploy/workspace.yaml"] == "/opt/dagster/workspace.yaml"
    assert copied["dagster.yaml"] == "/opt/dagster/home/dagster.yaml"
    kept = [line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for line in lines.splitlines():
        if line.startswith("COPY"):
            assert set(line.split()[1:-1]) <= set(kept)
    assert all((REPOSITORY / name).exists() for name in kept)


class Deployment:
    """Services of the compose file as processes of this machine."""

    def __init__(self, folder: Path, variables: Mapping[str, str], moved: Mapping[str, str]) -> None:
        self.folder = folder
        self.services = compose()["services"]
        self.variables = variables
        self.moved = moved
        self.homes = {name: folder / f"home_{name}" for name in OURS}
        for home in self.homes.values():
            home.mkdir()
            shutil.copy(REPOSITORY / "dagster.yaml", home)
        workspace = yaml.safe_load((REPOSITORY / "deploy" / "workspace.yaml").read_text())
        (server,) = (each["grpc_server"] for each in workspace["load_from"])
        assert server["port"] == int(self.argument("code_server", "--port"))
        server |= {"host": "127.0.0.1", "port": int(moved["4000"])}
        (folder / "workspace.yaml").write_text(yaml.safe_dump(workspace))

    def argument(self, name: str, option: str) -> str:
        command = self.services[name]["command"]
        return str(command[command.index(option) + 1])

    def adapted(self, text: str) -> str:
        """A value of the compose file with its addresses, ports and folders moved to this machine."""
        text = interpolated(text, self.variables)
        for place, here in self.moved.items():
            text = re.sub(rf"(?<![\w.-]){re.escape(place)}(?!\w)", here, text)
        return text

    def environment(self, name: str) -> dict[str, str]:
        # As containers they share nothing that the file does not say.
        of_image = {"DAGSTER_HOME": str(self.homes[name]), "HF_DATA_DIR": str(self.folder / f"data_{name}")}
        declared = {key: self.adapted(value) for key, value in self.services[name]["environment"].items()}
        return (
            {"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(self.folder), "PYTHONWARNINGS": "ignore"} | of_image | declared
        )

    def command(self, name: str) -> list[str]:
        return [self.adapted(each) for each in self.services[name]["command"]]

    def is_healthy(self, name: str) -> bool:
        """What the service's own health check says."""
        test = [self.adapted(each) for each in self.services[name]["healthcheck"]["test"][1:]]
        checked = subprocess.run(test, env=self.environment(name), cwd=REPOSITORY, capture_output=True, timeout=60)
        return checked.returncode == 0

    def has_begun(self, name: str) -> bool:
        """Whether a service listens on its port; the daemon has none, and says that it has started."""
        port = {"code_server": "4000", "webserver": "3000", "mlflow": "5000"}.get(name)
        if port is None:
            return CONFIGURED.search((self.folder / f"{name}.log").read_text()) is not None
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", int(self.moved[port]))) == 0

    def start(self, stack: ExitStack, *names: str) -> None:
        """Start services side by side, as their dependencies allow, and wait until all are healthy."""
        for name in names:
            command = self.command(name)
            stack.enter_context(
                serving(
                    ["env", "-i", *(f"{key}={value}" for key, value in self.environment(name).items()), *command],
                    log=self.folder / f"{name}.log",
                    is_ready=lambda: True,
                    cwd=REPOSITORY,
                )
            )
        for name in names:
            try:
                # Each check is a process that imports for seconds: it is asked once there is something to be found.
                wait_until(lambda name=name: self.has_begun(name), f"beginning of {name}", timeout_s=START_S)
                wait_until(lambda name=name: self.is_healthy(name), f"healthy {name}", timeout_s=START_S, every_s=1.0)
            except AssertionError as e:
                raise AssertionError(f"{e}\n{(self.folder / f'{name}.log').read_text()[-3000:]}") from e

    def graphql(self, query: str, **variables: Any) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.moved['3000']}/graphql",
            json.dumps({"query": query, "variables": variables}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["data"]


LOG = "query Log($key: [String!]!) { capturedLogs(logKey: $key) { stderr } }"


@pytest.mark.servers
def test_compose_services_become_healthy_by_their_own_checks_and_materialise_a_week(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as stack:
        postgres = stack.enter_context(postgres_server(tmp_path))
        s3 = stack.enter_context(s3_server(tmp_path, bucket="hf-pipelines"))
        postgres.as_superuser((REPOSITORY / "deploy" / "create-mlflow-database.sql").read_text())
        # In the image the role that creates it owns it.
        postgres.as_superuser("ALTER DATABASE mlflow OWNER TO hf")
        ports = {port: str(free_port()) for port in ("3000", "4000", "5000")}
        variables = {
            "POSTGRES_PASSWORD": postgres.password,
            "MINIO_ROOT_USER": s3.env["AWS_ACCESS_KEY_ID"],
            "MINIO_ROOT_PASSWORD": s3.env["AWS_SECRET_ACCESS_KEY"],
        }
        # One database for the tests' role is enough for Dagster; the names of the hosts become this one.
        moved = {
            "postgres:5432/dagster": f"127.0.0.1:{postgres.port}/hf",
            "postgres:5432": f"127.0.0.1:{postgres.port}",
            "http://minio:9000": s3.endpoint,
            "http://mlflow:5000": f"http://127.0.0.1:{ports['5000']}",
            "0.0.0.0": "127.0.0.1",
            "/opt/dagster/workspace.yaml": str(tmp_path / "workspace.yaml"),
            **ports,
        }
        deployment = Deployment(tmp_path, variables, moved)
        # A check that is always content would prove nothing.
        assert not any(deployment.is_healthy(name) for name in OURS)
        deployment.start(stack, "mlflow", "code_server")
        deployment.start(stack, "webserver", "daemon")

        # MLflow answers under the name that the code server calls it by, and refuses a foreign one.
        answers = {}
        own_name = deployment.adapted("mlflow:5000")
        for host in (own_name, "elsewhere.example"):
            request = urllib.request.Request(
                f"http://127.0.0.1:{ports['5000']}/api/2.0/mlflow/experiments/search?max_results=1",
                headers={"Host": host},
            )
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    answers[host] = answer.status
            except urllib.error.HTTPError as e:
                answers[host] = e.code
        assert answers == {own_name: 200, "elsewhere.example": 403}

        selector = {
            "repositoryLocationName": "hf_pipelines",
            "repositoryName": "__repository__",
            "pipelineName": "__ASSET_JOB",
            "assetSelection": [{"path": ["us_tech", "bars"]}],
        }
        tags = [{"key": "dagster/partition", "value": WEEK}]
        launched = deployment.graphql(
            LAUNCH, params={"selector": selector, "mode": "default", "executionMetadata": {"tags": tags}}
        )["launchPipelineExecution"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        run_id = launched["run"]["runId"]

        def status() -> str:
            return str(deployment.graphql(STATUS, id=run_id)["runOrError"]["status"])

        wait_until(lambda: status() in ("SUCCESS", "FAILURE"), "end of the run")
        assert status() == "SUCCESS", (tmp_path / "code_server.log").read_text()[-3000:]
        for name, value in s3.env.items():
            monkeypatch.setenv(name, value)
        footer = PartitionStore(ObjectStore("s3://hf-pipelines/storage", s3.endpoint)).footer("us_tech/bars", WEEK)
        assert footer is not None
        assert footer.run_id == run_id

        # What the run printed lies in the bucket, and the web server, which shares no folder with it, shows it.
        client = boto3.client("s3", endpoint_url=s3.endpoint)
        prefix = "storage/_compute_logs/storage/"
        stored = client.list_objects_v2(Bucket="hf-pipelines", Prefix=f"{prefix}{run_id}/compute_logs/")["Contents"]
        (log,) = [each["Key"] for each in stored if each["Key"].endswith(".err")]
        shown = deployment.graphql(LOG, key=log.removeprefix(prefix).removesuffix(".err").split("/"))["capturedLogs"]
        assert f"{run_id}" in shown["stderr"]
        assert "STEP_SUCCESS" in shown["stderr"]
