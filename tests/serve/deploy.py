#!/usr/bin/env python3
"""Checks the files in deploy/ as far as that goes without a cluster, a container engine and a GPU.

    python tests/serve/deploy.py --fullconv target/release/fullconv [--metrics URL|FILE]

Kubernetes' kinds are held to its schemas, KServe's to the classes of its package, unknown keys are refused; metrics of
the dashboard and the autoscaler to what a server exports, command lines to the program, the image's files and
packages to the repository and to Debian, systemd's units to systemd-analyze. Without --metrics it starts a server, and
sends it a picture and a request that fails; a server given by --metrics has to have had both. A check whose tool is missing is skipped, and says so.

Requirements: kubernetes-validate 1.37, kserve 0.21, pyyaml; if they are there: kubectl, systemd-analyze, apt-cache, cargo.
"""

import argparse
import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
# What the server may take at its end beside --drain-delay and --drain-timeout, in seconds.
LAST = 6
# The kinds of other programs, whose schemas no package has: the keys that are known to be right.
OTHERS = {
    "ServiceMonitor": {
        "spec": {"selector": {"matchLabels": str}, "endpoints": [{"port": str, "path": str, "interval": str}]},
    },
}
# Metrics that no request brings about.
UNSEEN = {"fullconv_device_lost_total"}
KUSTOMIZE = {"Kustomization", "Component"}
SKIPPED = []


def skip(why):
    SKIPPED.append(why)
    print(f"  SKIP: {why}")


def run(*command, **options):
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, **options)


def documents(text):
    return [document for document in yaml.safe_load_all(text) if document]


def manifests():
    """Every YAML file of deploy/, and its documents."""
    for path in sorted(DEPLOY.rglob("*.yaml")):
        yield path, documents(path.read_text())


def built():
    """What kustomize makes of each folder that can be applied, and of each with all components."""
    if not shutil.which("kubectl"):
        skip("no kubectl: the folders of kustomize are not built")
        return
    folders = [path.parent for path in sorted(DEPLOY.rglob("kustomization.yaml"))]
    kinds = {folder: documents((folder / "kustomization.yaml").read_text())[0]["kind"] for folder in folders}
    components = [folder for folder, kind in kinds.items() if kind == "Component"]
    for folder, kind in kinds.items():
        if kind == "Component":
            continue
        yield folder, kustomize(folder)
        if folder.parent.name == "kubernetes" and folder.name != "base":
            with tempfile.TemporaryDirectory(dir=DEPLOY / "kubernetes") as all_of_it:
                kustomization = {
                    "apiVersion": "kustomize.config.k8s.io/v1beta1",
                    "kind": "Kustomization",
                    "resources": [f"../{folder.name}"],
                    "components": [f"../{component.name}" for component in components],
                }
                (Path(all_of_it) / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
                yield Path(f"{folder} with components"), kustomize(all_of_it)


def kustomize(folder):
    made = run("kubectl", "kustomize", folder)
    assert made.returncode == 0, f"{folder}: {made.stderr}"
    return documents(made.stdout)


# -- kinds -----------------------------------------------------------------------------------------------------------


def check_kind(where, document):
    kind = document["kind"]
    if kind in KUSTOMIZE:
        return
    if document["apiVersion"].startswith("serving.kserve.io/"):
        check_kserve(where, document)
    elif kind in OTHERS:
        check_keys(f"{where}: {kind}", document["spec"], OTHERS[kind]["spec"])
    else:
        import kubernetes_validate

        kubernetes_validate.validate(document, "1.37", strict=True)


def check_keys(where, value, known):
    if isinstance(known, list):
        assert isinstance(value, list), f"{where} is no list"
        for one in value:
            check_keys(where, one, known[0])
    elif isinstance(known, dict):
        for key, inner in value.items():
            assert key in known, f"{where}: unknown key {key}"
            check_keys(f"{where}.{key}", inner, known[key])


def check_kserve(where, document):
    models = importlib.import_module("kserve.models")
    version = document["apiVersion"].split("/")[1].capitalize()
    walk(f"{where}: {document['kind']}", document, f"{version}{document['kind']}", models)


def walk(where, value, kind, models):
    """Holds `value` to `kind`, as the generated classes write it: a class, a scalar, list[…], dict(str, …), Dict[str, …]."""
    if inner := re.fullmatch(r"[Ll]ist\[(.*)\]", kind):
        assert isinstance(value, list), f"{where}: {value!r} is no list"
        for index, one in enumerate(value):
            walk(f"{where}[{index}]", one, inner[1], models)
    elif inner := re.fullmatch(r"[Dd]ict[\[(]str, (.*)[\])]", kind):
        assert isinstance(value, dict), f"{where}: {value!r} is no object"
        for key, one in value.items():
            walk(f"{where}.{key}", one, inner[1], models)
    elif kind in SCALARS:
        assert isinstance(value, SCALARS[kind]), f"{where}: {value!r} is no {kind}"
        # In Python a truth value is a number.
        assert kind in ("bool", "object") or not isinstance(value, bool), f"{where}: {value!r} is no {kind}"
    else:
        known = class_named(kind, models)
        assert isinstance(value, dict), f"{where}: {value!r} is no object"
        names = {name: attribute for attribute, name in known.attribute_map.items()}
        for key, one in value.items():
            assert key in names, f"{where}: {kind} has no key {key}"
            walk(f"{where}.{key}", one, known.openapi_types[names[key]], models)


SCALARS = {"str": str, "int": int, "float": (int, float), "bool": bool, "object": object, "datetime": str}
# Numbers or text: ports of probes, amounts of memory.
SCALARS |= {"IntOrString": (int, str), "ResourceQuantity": (int, str)}


def class_named(kind, models):
    # KServe's classes name Kubernetes' own types by their Go packages, or as Kubernetes' client does.
    names = [kind, re.sub(r"^K8sIoApi(Core|Apps)V1", "V1", kind), re.sub(r"^K8sIo.*?V1", "V1", kind)]
    for module in (models, importlib.import_module("kubernetes.client")):
        for name in names:
            if hasattr(module, name):
                return getattr(module, name)
    raise AssertionError(f"no class {kind}")


def containers(document):
    """The containers of pods, and the pod's specification."""
    if isinstance(document, dict):
        if "containers" in document:
            for container in document["containers"]:
                yield container, document
        for value in document.values():
            yield from containers(value)
    elif isinstance(document, list):
        for value in document:
            yield from containers(value)


def check_manifests(fullconv):
    described = set(json.loads((ROOT / "serve/openapi.json").read_text())["paths"])
    named = [(str(path.relative_to(ROOT)), found) for path, found in manifests()]
    named += [(str(folder), found) for folder, found in built()]
    count = 0
    for where, found in named:
        for document in found:
            check_kind(where, document)
            for container, pod in containers(document):
                at = f"{where}: {container['name']}"
                if "args" in container:
                    check_container(at, container, pod, document, described, fullconv)
                elif "command" in container:
                    check_shares(at, container["command"], document["spec"], fullconv)
                    check_pod(at, container, pod)
            count += document["kind"] not in KUSTOMIZE
    print(f"  {count} objects")
    assert count > 20


def check_container(where, container, pod, document, described, fullconv):
    args = image()["entrypoint"][1:] + container["args"]
    options = check_command(where, args, fullconv)
    listens = {int(address.rsplit(":", 1)[1]) for address in options["--listen"]}
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert set(ports.values()) == listens, f"{where}: ports {ports}, listens on {listens}"
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        get = container[probe]["httpGet"]
        assert get["path"] in described, f"{where}: no path {get['path']}"
        assert ports.get(get["port"], get["port"]) in listens, f"{where}: {probe} asks no port of the server"
    annotations = annotations_of(document)
    for key, path in annotations.items():
        if key.endswith("/path"):
            assert path in described, f"{where}: no path {path}"
        if key.endswith("/port"):
            assert int(path) in listens, f"{where}: no port {path}"
    # KServe's runtimes have no such key; the example of a model has it.
    if document["kind"] == "Deployment":
        check_drain(where, pod["terminationGracePeriodSeconds"], options)
    elif document["kind"] == "ClusterServingRuntime":
        example = documents((DEPLOY / "kserve/inference-service.yaml").read_text())[0]
        check_drain(where, example["spec"]["predictor"]["terminationGracePeriodSeconds"], options)
    check_pod(where, container, pod)


def check_pod(where, container, pod):
    """The container's rights, and the folders that the image's variables name."""
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"] and not security["allowPrivilegeEscalation"], where
    assert security["capabilities"]["drop"] == ["ALL"], where
    user = image()["user"]
    own = {**pod.get("securityContext", {}), **security}
    assert own["runAsNonRoot"] and f"{own['runAsUser']}:{own['runAsGroup']}" == user, f"{where}: not {user}"
    # What the image's variables name has to be writable.
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    for name in ("FULLCONV_CACHE", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"):
        folder = image()["variables"][name]
        assert "emptyDir" in volumes[mounts[folder]], f"{where}: {folder} ({name}) cannot be written"
    assert set(mounts.values()) <= set(volumes), where


def check_shares(where, command, job, fullconv):
    """A job that segments a folder: as many shares as pods, and a command line that the program takes."""
    assert command[:2] == [image()["entrypoint"][0], "segment"], f"{where}: {command}"
    shares = re.search(r"--shard=\$\(JOB_COMPLETION_INDEX\)/(\d+)", " ".join(command))
    assert job["completionMode"] == "Indexed" and int(shares[1]) == job["completions"], f"{where}: {shares[0]}"
    for index in range(job["completions"]):
        args = [arg.replace("$(JOB_COMPLETION_INDEX)", str(index)) for arg in command[1:]]
        # The parser's status is 2; folders that are not here are status 1.
        parsed = run(fullconv, *args)
        assert parsed.returncode == 1, f"{where}: {parsed.stderr}"


def annotations_of(document):
    spec = document.get("spec", {})
    template = spec.get("template", {}).get("metadata", {}).get("annotations", {})
    return {**spec.get("annotations", {}), **template}


def check_drain(where, grace, options):
    drain = sum(int(options[name][0]) for name in ("--drain-delay", "--drain-timeout"))
    assert grace > drain + LAST, f"{where}: {grace} s are too short for a drain of {drain} s"


# -- command lines ---------------------------------------------------------------------------------------------------


def flags(fullconv, command="serve"):
    text = run(fullconv, command, "--help")
    assert text.returncode == 0, text.stderr
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text.stdout))


def check_command(where, args, fullconv):
    """Holds a command line to the program's parser; its options, each with its values."""
    assert args[0] == "serve", f"{where}: {args}"
    args = [arg.replace("{{.Name}}", "model") for arg in args]
    options = {}
    known = flags(fullconv)
    for at, arg in enumerate(args):
        if arg.startswith("--"):
            name, equals, value = arg.partition("=")
            assert name in known, f"{where}: fullconv serve has no {name}"
            following = args[at + 1] if at + 1 < len(args) else ""
            options.setdefault(name, []).append(value if equals else following)
    # The parser's status is 2; models that are not here are status 1.
    parsed = run(fullconv, *args, "--check-config")
    assert parsed.returncode in (0, 1), f"{where}: {parsed.stderr}"
    return options


def check_words(fullconv):
    """Options in comments and texts of deploy/: of the server, or of other commands."""
    known = flags(fullconv) | flags(fullconv, "devices") | flags(fullconv, "segment")
    others = re.compile(r"docker|podman|kubectl|kustomize|cargo|apt-get|^FROM|^COPY|^RUN|^\s*&&|--mount|systemctl|install ")
    count = 0
    for path in sorted(path for path in DEPLOY.rglob("*") if path.is_file()):
        for line in path.read_text().splitlines():
            if others.search(line):
                line = line.split("fullconv ", 1)[-1] if "--entrypoint" not in line else ""
                line = "" if others.search(line) else line
            for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]*", line):
                assert flag in known, f"{path.relative_to(ROOT)}: no option {flag}: {line.strip()}"
                count += 1
    print(f"  {count} options")
    assert count > 10


# -- the image -------------------------------------------------------------------------------------------------------


def image():
    """The instructions of the Containerfile, and what of them others use."""
    text = (DEPLOY / "Containerfile").read_text()
    text = re.sub(r"^#.*\n", "", text, flags=re.M)
    lines = [line.strip() for line in re.sub(r"\\\n", " ", text).splitlines() if line.strip()]
    steps = [line.split(None, 1) for line in lines]
    of = lambda name: [rest for word, rest in steps if word == name]
    variables = dict(part.split("=", 1) for rest in of("ENV") for part in shlex.split(rest))
    entrypoint = json.loads(of("ENTRYPOINT")[0])
    return {"steps": steps, "of": of, "variables": variables, "entrypoint": entrypoint, "user": of("USER")[0]}


def check_image(fullconv):
    made = image()
    check_command("Containerfile", made["entrypoint"][1:], fullconv)
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", made["user"]), "the user is no number, or root"
    ignored = [line for line in (DEPLOY / "Containerfile.dockerignore").read_text().splitlines() if line[:1] != "#"]
    copies, from_stages = [], []
    for rest in made["of"]("COPY"):
        words = [word for word in rest.split() if not word.startswith("--")]
        (from_stages if "--from=" in rest else copies).append((words[:-1], words[-1]))
    sources = [source for names, _ in copies for source in names]
    for source in sources:
        assert (ROOT / source).exists(), f"COPY: no {source}"
        assert not any(source == line or source.startswith(f"{line}/") for line in ignored), f"{source} is ignored"
    built_files = " ".join(made["of"]("RUN"))
    for names, _ in from_stages:
        assert all(name in built_files for name in names), f"no step makes {names}"
    with tempfile.TemporaryDirectory() as folder:
        check_source(Path(folder), [copy for copy in copies if not any("deploy" in name for name in copy[0])])
    start = run("sh", "-n", DEPLOY / "start.sh")
    assert start.returncode == 0, start.stderr
    assert json.loads((DEPLOY / "nvidia_icd.json").read_text())["ICD"]["library_path"]
    targets = {target for _, target in copies + from_stages}
    for path in re.findall(r"/usr/local/\S+?(?=[\s\"}])", (DEPLOY / "start.sh").read_text()):
        assert path in targets, f"start.sh: the image has no {path}"
    assert made["entrypoint"][0] in targets
    check_packages(re.search(r"apt-get install .*?&&", built_files)[0].split()[2:-1])


def check_source(folder, copies):
    """Copies what the image's build gets, and looks for the files that the packages need."""
    for names, target in copies:
        if target.startswith("/"):
            continue
        for name in names:
            whole = shutil.ignore_patterns("target", "node_modules")
            to = folder / name
            to.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, to, ignore=whole)
            else:
                shutil.copy(ROOT / name, to)
    for path in folder.rglob("*.rs"):
        code = path.read_text()
        relative = [path.parent / name for name in re.findall(r'include_(?:str|bytes)!\(\s*"([^"]+)"', code)]
        manifest = next(parent for parent in path.parents if (parent / "Cargo.toml").exists())
        pattern = r'include_(?:str|bytes)!\(concat!\(\s*env!\("CARGO_MANIFEST_DIR"\),\s*"([^"]+)"\s*\)\)'
        relative += [Path(f"{manifest}{name}") for name in re.findall(pattern, code)]
        for needed in relative:
            inside = path.relative_to(folder).as_posix()
            # Tests take more than the program does.
            assert needed.exists() or "tests/" in inside, f"{inside} needs {needed}, which is not copied"
    if not shutil.which("cargo"):
        return skip("no cargo: the copied packages are not looked at")
    # The smallest package: cargo reads the manifests of all, and the files that they name.
    found = run("cargo", "check", "--locked", "--offline", "--package", "fullconv-demo", cwd=folder)
    assert found.returncode == 0, found.stderr


def check_packages(words):
    names = [word for word in words if not word.startswith("-") and word != "install"]
    assert "libvulkan1" in names and len(names) > 4, names
    if not shutil.which("apt-cache"):
        return skip("no apt-cache: Debian's packages are not looked up")
    if not run("apt-cache", "search", "--names-only", "^libvulkan1$").stdout:
        return skip("apt-cache knows no packages: run apt-get update")
    for name in names:
        shown = run("apt-cache", "policy", name).stdout
        assert "Candidate:" in shown and "Candidate: (none)" not in shown, f"Debian has no package {name}"


# -- metrics ---------------------------------------------------------------------------------------------------------


def exported(text):
    """The names of the metrics in a server's text. A metric appears with its first value."""
    names = set(re.findall(r"^(fullconv_\w+)[{ ]", text, flags=re.M))
    assert "fullconv_request_duration_seconds_bucket" in names, "the server has had no request with a result"
    code = (ROOT / "serve/src/metrics.rs").read_text()
    for name in UNSEEN:
        source = re.sub(r"^fullconv_|_total$", "", name)
        assert f'"{source}"' in code, f"no metric {name} in the server's source"
    return names | UNSEEN


def check_metrics(text):
    names = exported(text)
    dashboard = json.loads((DEPLOY / "grafana/fullconv.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    expressions += [v["definition"] for v in dashboard["templating"]["list"] if v["type"] == "query"]
    used = {name for expression in expressions for name in re.findall(r"\bfullconv_\w+", expression)}
    assert used <= names, f"the dashboard asks for {sorted(used - names)}"
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in used}
    print(f"  {len(used)} names in {len(expressions)} expressions; not shown: {sorted(families - shown) or 'none'}")
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids), "panels with one number"
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    for at, a in enumerate(places):
        assert a["x"] + a["w"] <= 24, a
        for b in places[:at]:
            apart = a["x"] >= b["x"] + b["w"] or b["x"] >= a["x"] + a["w"]
            assert apart or a["y"] >= b["y"] + b["h"] or b["y"] >= a["y"] + a["h"], f"panels overlap: {a}, {b}"
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    for name in re.findall(r"\$\{?(\w+)", json.dumps(dashboard)):
        assert name in variables or name.startswith("__"), f"no variable {name}"
    for path, found in manifests():
        for document in found:
            if document["kind"] == "HorizontalPodAutoscaler":
                metric = document["spec"]["metrics"][0]["pods"]["metric"]["name"]
                assert metric in names, f"the autoscaler asks for {metric}"
                comments = (path.parent / "kustomization.yaml").read_text()
                assert all(name in names for name in re.findall(r"\bfullconv_\w+", comments)), path


class Server:
    """A server, for its metrics."""

    def __init__(self, fullconv):
        self.fullconv = fullconv

    def __enter__(self):
        arguments = ["serve", "--listen", "127.0.0.1:0", "--allow-cpu"]
        self.process = subprocess.Popen(
            [self.fullconv, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        line = self.process.stdout.readline()
        address = re.search(r"http://[\d.:]+", line)
        assert address, f"the server says {line!r}"
        return address[0]

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def metrics_of(given, fullconv):
    if given and not given.startswith("http"):
        return Path(given).read_text()
    if given:
        return read(given).decode()
    with Server(fullconv) as address:
        picture = (ROOT / "tests/pictures/rgb.jpg").read_bytes()
        read(f"{address}/segment", picture)
        try:
            read(f"{address}/segment", b"no picture")
        except urllib.error.HTTPError as error:
            assert error.code == 415, error
        return read(f"{address}/metrics").decode()


def read(url, body=None):
    with urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=120) as answer:
        return answer.read()


# -- systemd ---------------------------------------------------------------------------------------------------------


def check_systemd(fullconv):
    folder = DEPLOY / "systemd"
    unit = (folder / "fullconv.service").read_text()
    command = re.search(r"^ExecStart=(\S+) (.*)$", unit, flags=re.M)
    example = re.search(r"FULLCONV_OPTIONS=(.*)$", unit, flags=re.M)
    options = check_command("fullconv.service", command[2].split()[:-1] + shlex.split(example[1]), fullconv)
    assert command[2].split()[-1] == "$FULLCONV_OPTIONS"
    delays = {"--drain-delay": ["5"], "--drain-timeout": ["30"], **options}
    check_drain("fullconv.service", int(re.search(r"^TimeoutStopSec=(\d+)$", unit, flags=re.M)[1]), delays)
    if not shutil.which("systemd-analyze"):
        return skip("no systemd-analyze: the units are not verified")
    with tempfile.TemporaryDirectory() as copies:
        for name in ("fullconv.service", "fullconv.socket"):
            # The program is not installed here.
            text = (folder / name).read_text().replace(command[1], str(fullconv))
            (Path(copies) / name).write_text(text)
        units = [Path(copies) / name for name in ("fullconv.service", "fullconv.socket")]
        verified = run("systemd-analyze", "verify", "--man=no", *units)
        assert verified.returncode == 0 and not verified.stderr.strip(), verified.stderr
        rated = run("systemd-analyze", "security", "--offline=yes", "--threshold=25", units[0])
        assert rated.returncode == 0, rated.stdout.splitlines()[-1:]


# -- the checks themselves -------------------------------------------------------------------------------------------


def check_itself():
    """Misspellings and wrong types are found."""
    runtime = documents((DEPLOY / "kserve/runtime.yaml").read_text())[0]
    deployment = documents((DEPLOY / "kubernetes/base/deployment.yaml").read_text())[0]
    for right in (runtime, deployment):
        check_kind("a right one", right)
    for document, path, value in [
        (runtime, ["spec", "supportedModelFormat"], []),
        (runtime, ["spec", "containers", 0, "readinessProbes"], {}),
        (runtime, ["spec", "containers", 0, "readinessProbe", "periodSeconds"], "5"),
        (runtime, ["spec", "volumes", 0, "emptyDirs"], {}),
        (deployment, ["spec", "replica"], 2),
        (deployment, ["spec", "replicas"], "2"),
        (deployment, ["spec", "template", "spec", "containers", 0, "readinessprobe"], {}),
    ]:
        wrong = json.loads(json.dumps(document))
        inner = wrong
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value
        try:
            check_kind("a wrong one", wrong)
        except Exception:
            continue
        raise AssertionError(f"not found: {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fullconv", type=Path, default=ROOT / "target/release/fullconv", help="the program")
    parser.add_argument("--metrics", help="the URL or the file of a server's metrics")
    options = parser.parse_args()
    fullconv = options.fullconv.resolve()
    assert fullconv.exists(), f"no program {fullconv}: cargo build --release"
    begin = time.monotonic()
    for name, check in [
        ("the checks", check_itself),
        ("manifests", lambda: check_manifests(fullconv)),
        ("the image", lambda: check_image(fullconv)),
        ("options in texts", lambda: check_words(fullconv)),
        ("metrics", lambda: check_metrics(metrics_of(options.metrics, fullconv))),
        ("systemd", lambda: check_systemd(fullconv)),
    ]:
        print(name, flush=True)
        check()
    print(f"all right in {time.monotonic() - begin:.0f} s, {len(SKIPPED)} skipped")


if __name__ == "__main__":
    os.environ.setdefault("NO_COLOR", "1")
    sys.exit(main())
