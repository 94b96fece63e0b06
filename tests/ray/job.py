#!/usr/bin/env python3
"""Checks examples/ray/job.yaml and Containerfile as far as that goes without a cluster and a container engine.

    python tests/ray/job.py

KubeRay's fields are held to those of its source (apis/ray/v1), pods to Kubernetes' schema, the command
to the example's options and the volumes, and the versions of Ray to each other.

Requirements: requirements.txt and fullconv's wheel.
"""

import re
import shlex
import sys
from pathlib import Path

import kubernetes_validate
import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "examples" / "ray"
sys.path.insert(0, str(FOLDER))

import segment

POD = object()
TEXTS = {str: str}
CLUSTER = {
    "rayVersion": str,
    "headGroupSpec": {"rayStartParams": TEXTS, "template": POD},
    "workerGroupSpecs": [
        {
            "groupName": str,
            "replicas": int,
            "minReplicas": int,
            "maxReplicas": int,
            "rayStartParams": TEXTS,
            "template": POD,
        }
    ],
}
JOB = {
    "apiVersion": str,
    "kind": str,
    "metadata": {"name": str, "labels": TEXTS},
    "spec": {
        "entrypoint": str,
        "shutdownAfterJobFinishes": bool,
        "ttlSecondsAfterFinished": int,
        "backoffLimit": int,
        "activeDeadlineSeconds": int,
        "rayClusterSpec": CLUSTER,
    },
}


def check(where, value, known, pods):
    """Holds a value to the fields that are known, and collects the pods' templates."""
    if known is POD:
        pods.append((where, value))
    elif known is TEXTS:
        assert all(isinstance(text, str) for pair in value.items() for text in pair), f"{where}: {value}"
    elif isinstance(known, dict):
        assert set(value) == set(known), f"{where}: {set(value) ^ set(known)}"
        for key, below in known.items():
            check(f"{where}.{key}", value[key], below, pods)
    elif isinstance(known, list):
        for i, one in enumerate(value):
            check(f"{where}[{i}]", one, known[0], pods)
    else:
        assert type(value) is known, f"{where}: {value!r} is no {known.__name__}"


def main():
    (job,) = yaml.safe_load_all((FOLDER / "job.yaml").read_text())
    pods = []
    check("job.yaml", job, JOB, pods)
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    program, script, *words = shlex.split(job["spec"]["entrypoint"])
    args = segment.parsed(words)
    assert program == "python" and len(pods) == 2
    for where, template in pods:
        pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}, "template": template}
        kubernetes_validate.validate(pod, "1.37", strict=True)
        (container,) = template["spec"]["containers"]
        mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
        volumes = {volume["name"] for volume in template["spec"]["volumes"]}
        assert {mount["name"] for mount in mounts.values()} == volumes, where
        assert {args.folder, str(Path(args.model).parent), args.output} == set(mounts), where
        assert not mounts[args.output].get("readOnly"), where
    workers = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    containers = [group["template"]["spec"]["containers"][0] for group in workers]
    assert all(container["resources"]["limits"]["nvidia.com/gpu"] == "1" for container in containers)
    image = (FOLDER / "Containerfile").read_text()
    version = job["spec"]["rayClusterSpec"]["rayVersion"]
    assert set(re.findall(r"ray:(\d[\d.]*)-|ray\[data\]==(\d[\d.]*)", image)) == {(version, ""), ("", version)}
    required = (ROOT / "tests" / "ray" / "requirements.txt").read_text()
    assert f"ray[data]=={version.rsplit('.', 1)[0]}.*" in required
    copies = [words.split() for words in re.findall(r"^COPY (.*)$", image, re.M)]
    for source in (source for *sources, _ in copies for source in sources):
        # The wheel is built by the first line of the file's comment.
        assert "*" in source or (ROOT / source).exists(), source
    assert [script] == [target for *_, target in copies if target.endswith(".py")]
    assert kubernetes_refuses(pods[0][1]), "the check of pods finds nothing wrong"
    print("job.yaml: right")


def kubernetes_refuses(template):
    """Whether a pod with a field that does not exist is refused."""
    wrong = {**template, "spec": {**template["spec"], "container": []}}
    try:
        pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}, "template": wrong}
        kubernetes_validate.validate(pod, "1.37", strict=True)
    except kubernetes_validate.ValidationError:
        return True
    return False


if __name__ == "__main__":
    main()
