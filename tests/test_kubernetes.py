"""The manifests of Kubernetes: valid, in agreement with the settings and each other, and what the project runs by."""

import ast
import contextlib
import copy
import functools
import itertools
import os
import re
import shutil
import sys
import sysconfig
from pathlib import Path

import jsonschema
import pytest
import yaml
from conftest import (
    PASSWORD,
    ROOT,
    TEMPLATE,
    become,
    certify,
    fetch,
    free_port,
    postgres,
    render,
    run,
    running,
    unpack,
    wait_until,
)

FOLDER = TEMPLATE / "deploy" / "kubernetes"
COMPONENTS = sorted(f"components/{each.name}" for each in (FOLDER / "components").iterdir())
SCHEMAS = ROOT.parent / "shared" / "schemas"  # not ours to copy; without them two tests say that they skip
DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
# The groups of kinds that Kubernetes itself does not have.
FOREIGN = ("cnpg.io/", "monitoring.coreos.com/")
# All keys of the Secret that CloudNativePG makes for the owner of the first database.
CNPG_KEYS = {"username", "user", "password", "dbname", "host", "port", "pgpass"}
CNPG_KEYS |= {"uri", "jdbc-uri", "fqdn-uri", "fqdn-jdbc-uri"}
# What it sets by itself, the last for a parameter of that extension.
CNPG_PARAMETERS = {
    "log_destination": "csvlog",
    "logging_collector": "on",
    "shared_preload_libraries": "pg_stat_statements",
}
PORT = 5432


def merge(under, over):
    """Lay one object over another: maps are merged, and anything else is replaced."""
    if not isinstance(under, dict) or not isinstance(over, dict):
        return over
    return under | {key: merge(under.get(key), value) for key, value in over.items()}


def resolve(folder, *components):
    """Do what `kubectl kustomize` does with the little that these files use of it, but for hashes in names."""
    plan = yaml.safe_load((folder / "kustomization.yaml").read_text())
    objects = {}
    for name in plan.get("resources", []):
        path = folder / name
        found = resolve(path) if path.is_dir() else index(yaml.safe_load_all(path.read_text()))
        assert not objects.keys() & found.keys()
        objects |= found
    for name in components:
        objects = merge(objects, resolve(folder / name))
    for generator in plan.get("configMapGenerator", []):
        data = dict(literal.split("=", 1) for literal in generator["literals"])
        new = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": generator["name"]}, "data": data}
        objects = merge(objects, index([new]))
    for patch in plan.get("patches", []):
        objects = merge(objects, index(yaml.safe_load_all((folder / patch["path"]).read_text())))
    for image in plan.get("images", []):
        for container in find_containers(find_pods(objects)).values():
            assert container["image"] == image["name"]
            container["image"] = f"{image['newName']}:{image['newTag']}"
    if "namespace" in plan:
        for each in objects.values():
            each["metadata"]["namespace"] = plan["namespace"]
    return objects


def index(objects):
    return {(each["kind"], each["metadata"]["name"]): each for each in objects}


def find_pods(objects):
    """Return the pods of the project by what they are for, as their label says."""
    pods = {}
    for each in objects.values():
        spec = each.get("spec", {})
        template = spec.get("jobTemplate", {}).get("spec", spec).get("template", {})
        if each["kind"] in {"CronJob", "Deployment", "Job"}:
            pods[template["metadata"]["labels"]["app.kubernetes.io/component"]] = template["spec"]
    return pods


def find_containers(pods):
    """Return the containers of pods, by the names that only one of them has."""
    found = [each for pod in pods.values() for each in [*pod.get("initContainers", []), *pod["containers"]]]
    return {each["name"]: each for each in found}


OBJECTS = resolve(FOLDER)
WITH_ALL = resolve(FOLDER, *COMPONENTS)
CLUSTER, POOLER = OBJECTS["Cluster", "database"], OBJECTS["Pooler", "pgbouncer"]
DEPLOYMENT, SCALER = OBJECTS["Deployment", "backend"], OBJECTS["HorizontalPodAutoscaler", "backend"]
VALUES = OBJECTS["ConfigMap", "backend"]["data"]
PODS = find_pods(OBJECTS)
DOCKERFILE = (TEMPLATE / "Dockerfile").read_text()
CONTAINERS = find_containers(PODS)
WEB = CONTAINERS["web"]
by_pod = pytest.mark.parametrize("pod", PODS.values(), ids=PODS)
by_container = pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)


def list_secrets(container):
    """Return the variables of a container that come from Secrets, each with the Secret's name and key."""
    references = {each["name"]: each.get("valueFrom") for each in container["env"]}
    return {
        name: (found["secretKeyRef"]["name"], found["secretKeyRef"]["key"])
        for name, found in references.items()
        if found
    }


def read_environment(container, secrets):
    """Return the variables that Kubernetes gives to a container."""
    (source,) = container["envFrom"]
    assert source == {"configMapRef": {"name": "backend"}}
    values = dict(VALUES)
    values |= {each["name"]: each["value"] for each in container["env"] if "value" in each}
    return values | {name: secrets[secret][key] for name, (secret, key) in list_secrets(container).items()}


def variables():
    """Return the variables that the settings read."""
    files = [*(TEMPLATE / "config").rglob("*.py"), *TEMPLATE.glob("apps/*/settings.py")]
    code = "\n".join(file.read_text() for file in files)
    return {*re.findall(r'(?:config|secret)\(\s*"([A-Z_]+)"', code)}


def read_assignment(file, name):
    """Return what a module of the project assigns to a name, without loading it."""
    for node in ast.parse((TEMPLATE / file).read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == name:
            return ast.literal_eval(node.value)
    raise LookupError(name)


# The manifests as such


@pytest.mark.parametrize("components", [[], COMPONENTS], ids=["base", "all"])
def test_kubectl_builds_what_these_tests_read(tmp_path, components):
    if not shutil.which("kubectl"):
        pytest.skip("There is no kubectl, which has kustomize in it.")
    folder = shutil.copytree(FOLDER, tmp_path / "kubernetes")
    plan = (folder / "kustomization.yaml").read_text().replace("components: []", f"components: {components}")
    (folder / "kustomization.yaml").write_text(plan)
    built = run("kubectl", "kustomize", folder, cwd="/").stdout
    (hashed,) = {*re.findall(r"\bbackend-[a-z0-9]{10}\b", built)}
    expected = resolve(FOLDER, *components)
    job = expected.pop(("Job", "migrate-0"))
    job["metadata"]["name"] = "migrate-1"  # by the tag of the image
    assert index(yaml.safe_load_all(built.replace(hashed, "backend"))) == expected | index([job])


def test_job_is_named_by_the_tag_of_the_image_so_that_each_deploy_makes_a_new_one(tmp_path):
    if not shutil.which("kubectl"):
        pytest.skip("There is no kubectl, which has kustomize in it.")
    folder = shutil.copytree(FOLDER, tmp_path / "kubernetes")
    plan = (folder / "kustomization.yaml").read_text().replace('newTag: "1"', 'newTag: "2.7.1-rc"')
    (folder / "kustomization.yaml").write_text(plan)
    objects = index(yaml.safe_load_all(run("kubectl", "kustomize", folder, cwd="/").stdout))
    assert ("Job", "migrate-2.7.1-rc") in objects
    images = {each["image"] for each in find_containers(find_pods(objects)).values()}
    assert images == {"registry.example.com/backend:2.7.1-rc"}


def test_built_in_kinds_are_valid(tmp_path):
    own = [each for each in WITH_ALL.values() if not any(group in each["apiVersion"] for group in FOREIGN)]
    (tmp_path / "own.yaml").write_text(yaml.safe_dump_all(own))
    tool = Path(sysconfig.get_path("scripts"), "kubernetes-validate")
    run(tool, "--strict", "--no-warn", tmp_path / "own.yaml", cwd="/")
    assert len(own) > 10


@functools.cache
def read_schema(kind):
    if not SCHEMAS.is_dir():
        pytest.skip(f"There is no {SCHEMAS}, which has the schemas of CloudNativePG.")
    text = (SCHEMAS / f"postgresql.cnpg.io_{kind.lower()}s.yaml").read_text()
    definition = yaml.load(text, Loader=yaml.CSafeLoader)
    (version,) = definition["spec"]["versions"]
    return close(version["schema"]["openAPIV3Schema"])


def close(schema):
    """Have a schema refuse what it does not name, as the API server does with `--validate=strict`."""
    if isinstance(schema, list):
        return [close(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: close(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        closed.setdefault("additionalProperties", False)
    return closed


def list_uses(value, schema):
    """Return the path of each field that is used, and what its schema says of it."""
    if isinstance(value, list):
        for each in value:
            yield from list_uses(each, schema["items"])
    elif isinstance(value, dict):
        for key, inner in value.items():
            found = schema.get("properties", {}).get(key) or schema.get("additionalProperties") or {}
            yield key, found.get("description", "")
            yield from ((f"{key}.{path}", said) for path, said in list_uses(inner, found))


@pytest.mark.parametrize("objects", [OBJECTS, WITH_ALL], ids=["base", "all"])
@pytest.mark.parametrize("kind", ["Cluster", "Pooler", "ScheduledBackup"])
def test_kinds_of_cloudnativepg_are_valid_and_use_nothing_deprecated(objects, kind):
    schema = read_schema(kind)
    (found,) = (each for each in objects.values() if each["kind"] == kind)
    jsonschema.validate(found, schema)
    said = dict(list_uses(found["spec"], schema["properties"]["spec"]))
    assert [path for path, description in said.items() if "deprecated" in description.lower()] == []


@pytest.mark.parametrize(
    ("path", "value"),
    [("instancez", 3), ("postgresql.synchronous.methods", "any"), ("postgresql.synchronous.method", "some")],
)
def test_schema_refuses_what_is_no_field_or_no_value(path, value):
    wrong = copy.deepcopy(CLUSTER)
    *above, last = path.split(".")
    inner = wrong["spec"]
    for key in above:
        inner = inner[key]
    inner[last] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, read_schema("Cluster"))


def test_archive_is_described_as_cloudnativepg_s_own_was():
    """The plugin's schema is not at hand, and its documentation says that this part is the same."""
    backup = read_schema("Cluster")["properties"]["spec"]["properties"]["backup"]
    store = WITH_ALL["ObjectStore", "archive"]
    jsonschema.validate(store["spec"]["configuration"], backup["properties"]["barmanObjectStore"])
    (plugin,) = WITH_ALL["Cluster", "database"]["spec"]["plugins"]
    assert plugin["parameters"] == {"barmanObjectName": store["metadata"]["name"]}
    assert plugin["name"] == WITH_ALL["ScheduledBackup", "database"]["spec"]["pluginConfiguration"]["name"]


def test_files_and_names_are_the_same_for_every_slug(tmp_path):
    """A slug holds underscores, which no name of Kubernetes's may."""
    rendered = render(tmp_path, project_slug="a_shop_of_forty_characters_in_its_name_1") / "deploy" / "kubernetes"
    for file in FOLDER.rglob("*.yaml"):
        assert (rendered / file.relative_to(FOLDER)).read_bytes() == file.read_bytes()
    names = {each["metadata"]["name"] for each in WITH_ALL.values()}
    assert [name for name in names if not DNS_LABEL.fullmatch(name)] == []


def test_database_and_roles_are_called_as_those_of_the_default_project(project):
    example = dict(re.findall(r"(?m)^(\w+)=(.*)$", (project / ".env.example").read_text()))
    initdb = CLUSTER["spec"]["bootstrap"]["initdb"]
    assert initdb["database"] == example["DB_NAME"]
    assert {name: VALUES[name] for name in ("DB_USER", "DB_MIGRATE_USER")} == {
        name: example[name] for name in ("DB_USER", "DB_MIGRATE_USER")
    }
    assert initdb["owner"] not in {*VALUES.values(), example["DB_NAME"]}


# What agrees with the settings


@by_container
def test_every_variable_is_one_that_the_settings_read(container):
    given = {*VALUES, *(each["name"] for each in container["env"])}
    assert given - variables() - {"FORWARDED_ALLOW_IPS"} == set()  # which gunicorn reads
    assert {*read_assignment("apps/core/environment.py", "REQUIRED_IN_PRODUCTION")} <= given
    assert {*WITH_ALL["ConfigMap", "backend"]["data"]} <= variables()


@by_container
def test_secrets_are_mapped_one_by_one(container):
    for name, (secret, key) in list_secrets(container).items():
        assert key in {"backend": {name}, "database-app": CNPG_KEYS}[secret]
    assert not any("secretRef" in source for source in container["envFrom"])
    assert not {*VALUES} & {*list_secrets(container)}
    assert not [name for name in VALUES if name.endswith(("PASSWORD", "KEY", "TOKEN"))]


def test_command_that_makes_the_secret_names_what_is_mapped():
    """It stands above the kustomization, and may be shown elsewhere."""
    files = FOLDER / "kustomization.yaml", FOLDER / "README.md"
    shown = [set(names.split()) for file in files for names in re.findall(r"for name in ([A-Z_ ]+);", file.read_text())]
    mapped = {key for each in CONTAINERS.values() for name, key in list_secrets(each).values() if name == "backend"}
    assert shown[0] == mapped
    assert all(names == mapped for names in shown)


def test_each_container_gets_the_passwords_of_the_roles_that_it_logs_in_as():
    own, monitor, owner = {"DB_PASSWORD"}, {"DB_MONITOR_PASSWORD"}, {"DB_MIGRATE_PASSWORD"}
    passwords = {
        name: {variable for variable in list_secrets(each) if variable.endswith("PASSWORD")}
        for name, each in CONTAINERS.items()
    }
    assert passwords == {
        "wait": own | monitor,
        "web": own | monitor,
        "record": own | monitor,
        "backup": own | owner,
        "migrate": own | monitor | owner | {"DB_ADMIN_PASSWORD"},
    }


@by_pod
def test_pod_runs_as_the_image_s_user_and_can_change_nothing_but_its_volumes(pod):
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert f"USER {pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}" in DOCKERFILE
    assert pod["automountServiceAccountToken"] is False
    for container in find_containers({"": pod}).values():
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }
        assert container["resources"].keys() == {"requests", "limits"}
        assert find_mounts(container).keys() == {each["name"] for each in pod["volumes"]}
        assert {"name": "temporary", "emptyDir": {}} in pod["volumes"]


def find_mounts(container):
    return {each["name"]: each["mountPath"] for each in container["volumeMounts"]}


@by_pod
def test_connection_is_verified_by_the_authority_that_cloudnativepg_makes(pod):
    """And never by its key, which lies beside the certificate."""
    (secret,) = (each["secret"] for each in pod["volumes"] if "secret" in each)
    name = CLUSTER["metadata"]["name"]
    assert secret == {"secretName": f"{name}-ca", "items": [{"key": "ca.crt", "path": "ca.crt"}]}
    for container in find_containers({"": pod}).values():
        assert VALUES["DB_SSLROOTCERT"] == f"{find_mounts(container)['authority']}/ca.crt"
    assert "DB_SSLMODE" not in VALUES  # which is verify-full in production


def test_hosts_have_names_that_the_server_s_certificate_holds():
    cluster = CLUSTER["metadata"]["name"]
    names = {f"{cluster}-{kind}" for kind in ("rw", "ro", "r")} | {
        *CLUSTER["spec"]["certificates"]["serverAltDNSNames"]
    }
    values = WITH_ALL["ConfigMap", "backend"]["data"]
    hosts = {values[name] for name in ("DB_HOST", "DB_DIRECT_HOST", "DB_REPLICA_HOST")}
    assert hosts == {POOLER["metadata"]["name"], f"{cluster}-rw", f"{cluster}-ro"} <= names


def test_backup_is_made_and_verified_where_the_image_puts_backups():
    commands = "python manage.py backup_database && python manage.py verify_backup"
    assert CONTAINERS["backup"]["command"] == ["sh", "-c", commands]
    assert f"ENV BACKUP_FOLDER={find_mounts(CONTAINERS['backup'])['backups']}\n" in DOCKERFILE
    claims = {each["name"]: each.get("persistentVolumeClaim") for each in PODS["backup"]["volumes"]}
    assert ("PersistentVolumeClaim", claims["backups"]["claimName"]) in OBJECTS


# What agrees with one another


def count_threads():
    """Return how many threads of web pods may want a connection at once, with one pod more during a deploy."""
    web = {each["name"]: each.get("value") for each in WEB["env"]}
    surge = DEPLOYMENT["spec"]["strategy"]["rollingUpdate"]["maxSurge"]
    return (SCALER["spec"]["maxReplicas"] + surge) * int(web["WEB_CONCURRENCY"]) * int(web["WEB_THREADS"])


def test_connections_of_all_pods_fit_into_pgbouncer_and_the_servers():
    parameters = POOLER["spec"]["pgbouncer"]["parameters"]
    server = CLUSTER["spec"]["postgresql"]["parameters"]
    reserved = 3 + 20  # for superusers, and for migrate, backups, CloudNativePG and whoever looks
    free = int(server["max_connections"]) - reserved
    surge = POOLER["spec"]["deploymentStrategy"]["rollingUpdate"]["maxSurge"]
    assert count_threads() <= int(parameters["max_client_conn"])  # of one instance, while the other is away
    assert (POOLER["spec"]["instances"] + surge) * int(parameters["max_db_connections"]) <= free
    assert int(parameters["default_pool_size"]) <= int(parameters["max_db_connections"])
    assert count_threads() <= free  # of one standby, where reads go there directly and the other is away
    assert SCALER["spec"]["scaleTargetRef"]["name"] == DEPLOYMENT["metadata"]["name"]
    assert "replicas" not in DEPLOYMENT["spec"]  # each deploy would take the pods away that the load asks for


def test_an_acknowledged_write_is_on_two_servers():
    spec = CLUSTER["spec"]
    synchronous = spec["postgresql"]["synchronous"]
    assert synchronous == {"method": "any", "number": 1, "dataDurability": "required", "failoverQuorum": True}
    assert spec["instances"] - 1 == int(VALUES["DB_EXPECTED_REPLICAS"]) > synchronous["number"]
    assert spec["affinity"] == {"podAntiAffinityType": "required", "topologyKey": "kubernetes.io/hostname"}


def test_probes_and_the_end_leave_enough_time():
    startup, ready = WEB["startupProbe"], WEB["readinessProbe"]
    wait = read_assignment("apps/core/management/commands/serve.py", "WAIT")
    assert startup["periodSeconds"] * startup["failureThreshold"] > wait
    assert ready["periodSeconds"] * (ready["failureThreshold"] - 1) > int(VALUES["DB_FAILOVER_WAIT"])
    pause = WEB["lifecycle"]["preStop"]["sleep"]["seconds"]
    graceful = read_assignment("config/server.py", "graceful_timeout")
    assert PODS["web"]["terminationGracePeriodSeconds"] > pause + graceful
    assert POOLER["spec"]["pgbouncer"]["parameters"]["query_wait_timeout"] == VALUES["DB_FAILOVER_WAIT"]


def label(component):
    return {"app.kubernetes.io/name": "backend", "app.kubernetes.io/component": component}


def test_service_budget_and_monitor_select_the_pods_that_serve():
    template = DEPLOYMENT["spec"]["template"]
    assert template["metadata"]["labels"] == label("web") == DEPLOYMENT["spec"]["selector"]["matchLabels"]
    assert OBJECTS["Service", "backend"]["spec"]["selector"] == label("web")
    assert OBJECTS["PodDisruptionBudget", "backend"]["spec"]["selector"]["matchLabels"] == label("web")
    assert WITH_ALL["PodMonitor", "backend"]["spec"]["selector"]["matchLabels"] == label("web")
    assert OBJECTS["PodDisruptionBudget", "pgbouncer"]["spec"]["selector"]["matchLabels"] == PGBOUNCER
    ports = {each["name"] for each in WEB["ports"]}
    assert OBJECTS["Service", "backend"]["spec"]["ports"][0]["targetPort"] in ports


PGBOUNCER, DATABASE = {"cnpg.io/poolerName": "pgbouncer"}, {"cnpg.io/cluster": "database"}
OUTSIDE = {"namespace": "default"}


def matches(peer, labels):
    """Tell whether a peer of a policy is a pod of these labels; a pod of another namespace has that as its label."""
    namespace = peer.get("namespaceSelector", {}).get("matchLabels", {}).get("kubernetes.io/metadata.name")
    if namespace != labels.get("namespace"):
        return False
    return peer.get("podSelector", {}).get("matchLabels", {}).items() <= labels.items()


def admits(direction, labels, other, port):
    """Tell whether the policies let a pod of these labels send to another, or receive from it, at the port."""
    policies = [
        each["spec"]
        for each in OBJECTS.values()
        if each["kind"] == "NetworkPolicy"
        and each["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
        and direction in each["spec"]["policyTypes"]
    ]
    side = {"Ingress": "from", "Egress": "to"}[direction]
    rules = itertools.chain.from_iterable(policy.get(direction.lower(), []) for policy in policies)
    return not policies or any(
        port in [each["port"] for each in rule["ports"]]
        and (side not in rule or any(matches(peer, other) for peer in rule[side]))
        for rule in rules
    )


def connects(source, target, port):
    return admits("Egress", source, target, port) and admits("Ingress", target, source, port)


@pytest.mark.parametrize("component", PODS)
def test_network_lets_the_project_reach_the_database_and_nothing_else(component):
    pod = label(component)
    assert connects(pod, PGBOUNCER, PORT)
    assert connects(pod, DATABASE, PORT)
    assert connects(pod, {"namespace": "kube-system", "k8s-app": "kube-dns"}, 53)
    assert not connects(pod, OUTSIDE, 443)
    assert not connects(pod, {"any": "other"}, PORT)
    assert not connects(OUTSIDE, pod, "http")
    assert connects({"namespace": "ingress"}, pod, "http") is (component == "web")
    assert connects({"namespace": "monitoring"}, pod, "http") is (component == "web")


def test_network_lets_the_servers_reach_one_another_and_be_watched():
    operator = {"namespace": "cnpg-system", "app.kubernetes.io/name": "cloudnative-pg"}
    for port in (PORT, 8000):
        assert connects(DATABASE, DATABASE, port)
        assert connects(operator, DATABASE, port)
    assert connects(PGBOUNCER, DATABASE, PORT)
    for pod in (PGBOUNCER, DATABASE):
        assert connects(pod, OUTSIDE, 443)  # the API of Kubernetes, and where backups are kept
        assert not connects(OUTSIDE, pod, PORT)
        assert not connects({"any": "other"}, pod, PORT)
    assert connects({"namespace": "monitoring"}, DATABASE, 9187)
    assert connects({"namespace": "monitoring"}, PGBOUNCER, 9127)


# The project, run by them


def make_secrets():
    """Return what the README has made by hand, and what CloudNativePG makes of the Cluster."""
    initdb = CLUSTER["spec"]["bootstrap"]["initdb"]
    password = f"{PASSWORD}-administrator"
    made = dict.fromkeys(CNPG_KEYS, "unused") | {
        "username": initdb["owner"],
        "password": password,
        "dbname": initdb["database"],
    }
    variables = {name for each in CONTAINERS.values() for name, (_, key) in list_secrets(each).items() if key == name}
    own = {name: f"{name}-{PASSWORD}-{PASSWORD}-{PASSWORD}" for name in variables}
    return {"backend": own, "database-app": made}


@contextlib.contextmanager
def pooled(server, certificates, secrets):
    """Run a pgbouncer as the Pooler says, with TLS on both sides; its port."""
    port, folder = free_port(), server.folder / "pgbouncer"
    folder.mkdir()
    spec = POOLER["spec"]["pgbouncer"]
    database = secrets["database-app"]["dbname"]
    passwords = {
        VALUES["DB_USER"]: secrets["backend"]["DB_PASSWORD"],
        f"{database}_monitor": secrets["backend"]["DB_MONITOR_PASSWORD"],
    }
    users = folder / "users.txt"
    users.write_text("".join(f'"{name}" "{password}"\n' for name, password in passwords.items()))
    settings = spec["parameters"] | {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "unix_socket_dir": "",
        "auth_type": "scram-sha-256",
        "auth_file": users,
        "pool_mode": spec["poolMode"],
        "ignore_startup_parameters": "extra_float_digits,options",  # CloudNativePG sets it
        "client_tls_sslmode": "require",
        "client_tls_cert_file": certificates / "server.crt",
        "client_tls_key_file": certificates / "server.key",
        "server_tls_sslmode": "verify-full",
        "server_tls_ca_file": certificates / "authority.crt",
    }
    configuration = folder / "pgbouncer.ini"
    lines = "".join(f"{name} = {value}\n" for name, value in settings.items())
    configuration.write_text(f"[databases]\n* = host=localhost port={server.port}\n[pgbouncer]\n{lines}")
    with running(*server.user, "pgbouncer", configuration, cwd="/") as (process, log):
        wait_until(lambda: "process up" in log.read_text() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield port


class Site:
    """A rendered project, a server as CloudNativePG would make it, and a pgbouncer; all that a pod finds."""

    def __init__(self, project, server, certificates, port, folder):
        self.project, self.folder = project, folder
        self.secrets = make_secrets()
        image = dict(re.findall(r"(?m)^(?:ENV|   ) ([A-Z_]+)=(\S+)", DOCKERFILE[DOCKERFILE.rindex("\nFROM") :]))
        self.image = image | {"DJANGO_SETTINGS_MODULE": "config.settings.production"}
        self.host = f"127.{os.getpid() % 250 + 1}.7.1"  # of its own, so that the port can be the manifest's
        # What has to be another on this machine, and nothing but that.
        self.here = {
            "DB_HOST": "localhost",
            "DB_PORT": str(port),
            "DB_DIRECT_HOST": "localhost",
            "DB_DIRECT_PORT": str(server.port),
            "DB_SSLROOTCERT": str(certificates / "authority.crt"),
            "BACKUP_FOLDER": str(folder / "backups"),
            "WEB_HOST": self.host,
            "TMPDIR": str(folder),
            "PATH": f"{server.binaries}:{os.environ['PATH']}",
        }

    def command(self, name, words=(), values=()):
        """Return how to run a container's command, or another, as its user, with its variables and no others."""
        values = self.image | read_environment(CONTAINERS[name], self.secrets) | dict(values) | self.here
        words = [re.sub(r"\bpython\b", sys.executable, word) for word in words or CONTAINERS[name]["command"]]
        user = become(PODS["web"]["securityContext"]["runAsUser"]) if os.geteuid() == 0 else []
        return [*user, "env", "-i", *(f"{key}={value}" for key, value in values.items()), *words]


@contextlib.contextmanager
def provided(folder):
    """Provide what is there before the manifests are applied, and what CloudNativePG makes of them."""
    project = render(folder)
    (project / ".env").unlink()  # the image has none
    writable = folder / "writable"
    (writable / "backups").mkdir(parents=True)
    for each in (writable, writable / "backups"):
        each.chmod(0o777)
    certificates = certify(folder)
    with postgres(unpack(18, folder)) as server:
        server.secure(certificates)
        secrets = make_secrets()
        bootstrap(server, secrets["database-app"])
        with pooled(server, certificates, secrets) as port:
            yield Site(project, server, certificates, port, writable)


def bootstrap(server, secret):
    """Do what CloudNativePG does with a new server: parameters, the owner, the database, statements, the extension."""
    parameters = CNPG_PARAMETERS | CLUSTER["spec"]["postgresql"]["parameters"]
    with (server.folder / "data" / "postgresql.conf").open("a") as file:
        file.writelines(f"{name} = '{value}'\n" for name, value in parameters.items())
    server.stop("fast")
    server.launch()
    with server.connect() as connection:
        connection.execute(f"CREATE ROLE {secret['username']} LOGIN PASSWORD '{secret['password']}'")
        connection.execute(f"CREATE DATABASE {secret['dbname']} OWNER {secret['username']}")
    with server.connect(secret["dbname"]) as connection:
        for statement in CLUSTER["spec"]["bootstrap"]["initdb"]["postInitApplicationSQL"]:
            connection.execute(statement)
        connection.execute("CREATE EXTENSION pg_stat_statements")


def test_project_runs_with_exactly_the_environment_of_the_manifests(tmp_path):
    with provided(tmp_path) as site:
        deploy(site)
        ask_probes(site)
        run_schedules(site)
        look_for_faults(site)
        read_from_standbys(site)


def deploy(site):
    """Start all at once: what waits does so until the Job has succeeded."""
    with running(*site.command("wait"), cwd=site.project) as (waiting, log):
        wait_until(lambda: "Authentication failed for user 'backend_db_app'" in log.read_text(), 60)
        migrated = run(*site.command("migrate"), cwd=site.project)
        assert migrated.stderr == ""  # it would say what an administrator may not grant
        assert migrated.stdout.endswith("environment: production\n")
        assert waiting.wait(60) == 0, log.read_text()


def ask_probes(site):
    """Ask at the paths and ports of the probes and of Prometheus, as whoever has the tokens."""
    ports = {each["name"]: each["containerPort"] for each in WEB["ports"]}
    secrets = site.secrets["backend"]
    assert site.image["PORT"] == str(ports["http"])
    with running(*site.command("web"), cwd=site.project) as (process, log):
        for name in ("startupProbe", "livenessProbe", "readinessProbe"):
            probe = WEB[name]["httpGet"]
            url = f"http://{site.host}:{ports[probe['port']]}{probe['path']}"
            assert fetch(url, 60)[0] == 200, log.read_text()
        details = fetch(url, Authorization=f"Bearer {secrets['HEALTH_TOKEN']}")[1]
        assert '"role": "primary"' in details
        monitor = WITH_ALL["PodMonitor", "backend"]["spec"]["podMetricsEndpoints"][0]
        url = f"http://{site.host}:{ports[monitor['port']]}{monitor['path']}"
        token = secrets[monitor["authorization"]["credentials"]["key"]]
        assert fetch(url, Authorization=f"Bearer {token}")[0] == 200
        assert process.poll() is None


def run_schedules(site):
    done = run(*site.command("backup"), cwd=site.project)
    assert list((site.folder / "backups").rglob("*.dump")), done.stdout
    run(*site.command("record"), cwd=site.project)


def look_for_faults(site):
    """There is what is so here alone: there are no standbys and no mail, and the server does not wait for its disk."""
    checks = "python", "manage.py", "check", "--deploy", "--database", "default"
    found = run(*site.command("web", checks), cwd=site.project).stderr
    expected = ["checklist.W013", "checklist.W016", "core.W005"]
    assert sorted(re.findall(r"\((\w+\.[EW]\d+)\)", found)) == expected, found


SHOW = """
from django.conf import settings
primary, replica = settings.DATABASES["default"], settings.DATABASES["replica"]
print(primary["ATOMIC_REQUESTS"], replica["HOST"], replica["PORT"], replica["OPTIONS"]["target_session_attrs"])
"""


def read_from_standbys(site):
    """Have the settings say what the component does."""
    values = WITH_ALL["ConfigMap", "backend"]["data"]
    done = run(*site.command("web", ["python", "-c", SHOW], values), cwd=site.project)
    assert done.stdout == f"False database-ro {PORT} standby\n"
