#!/usr/bin/env python3
"""Labels a folder of pictures on a Ray cluster, or on this machine.

    python segment.py /shared/pictures -m /shared/model.safetensors -o /shared/results

Each actor holds a segmenter on a device of its own: the GPU that Ray lends it, or with the resource "vulkan" a GPU of its
node that no other actor holds. Ray reads the files, fullconv decodes them. RESULTS gets NAME.mask.png for each picture,
under the names of `fullconv segment`, and

    manifest/*.parquet    path, mask, width, height, error, classes (id, name, share): a row for each picture
    checkpoint/           the pictures that have a row: a run that was killed goes on with the others
    run.json              what the masks were made with: another model is refused

Folders and model have the same path on all nodes. Requirements: fullconv, ray[data] 2.60. docs/bulk.md says more.
"""

import argparse
import fcntl
import hashlib
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import pyarrow as pa
import pyarrow.dataset
import ray
from ray.data.checkpoint import CheckpointConfig

import fullconv
from fullconv.folders import ENDINGS, MASK, RESULTS, names

SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("mask", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("error", pa.string()),
        ("classes", pa.list_(pa.struct([("id", pa.uint8()), ("name", pa.string()), ("share", pa.float64())]))),
    ]
)
# Errors of the device, the model or the program: no picture is at fault, and the job ends.
OF_THE_JOB = (fullconv.DeviceError, fullconv.ModelError, fullconv.InternalError)
# An actor waits for its device most of the time. With a whole CPU for each, readers find none and the job hangs.
CPUS_OF_ACTOR = 0.25
# Reading, filtering what is done, and writing take one each.
CPUS_OF_THE_REST = 3
# So many failed pictures are printed; the manifest has all.
SHOWN = 10


class Refused(Exception):
    """What cannot be done, in one line."""


# -- in the actors ---------------------------------------------------------------------------------------------------


class Label:
    """A segmenter on a device of its own. Everything comes through the constructor: a worker has no command line."""

    def __init__(self, model, digest, output, device, precision, longer):
        # Without this, a node that does not share the folder would keep its masks to itself.
        if not os.path.exists(os.path.join(output, "run.json")):
            raise Refused(f"node {node()} does not see {output}: the folder has to be shared by all nodes")
        if digest_of(model) != digest:
            raise Refused(f"{model} on node {node()} is another file than on the driver's node")
        # The lock is held as long as the process lives.
        wanted, self.lock = own_device() if device == "auto" else (device, None)
        self.segmenter = fullconv.Segmenter(model, device=wanted, precision=precision)
        self.output = output
        self.longer = longer
        # Opens it: an actor without a device ends here.
        print(f"actor {os.getpid()} on node {node()}: {self.segmenter.device}", flush=True)

    def __call__(self, batch):
        paths, files = batch["path"].to_pylist(), batch["bytes"].to_pylist()
        rows = []
        # Pictures are decoded while the device works on others.
        for path, file, found in zip(paths, files, self.segmenter.stream(files, errors="yield"), strict=True):
            if isinstance(found, fullconv.DeviceLostError):
                found = self.again(file)
            if isinstance(found, fullconv.Error) and not isinstance(found, OF_THE_JOB):
                rows.append({"path": path, "error": str(found), "classes": []})
            elif isinstance(found, Exception):
                raise found
            else:
                rows.append(self.written(path, found))
        return pa.Table.from_pylist(rows, SCHEMA)

    def again(self, file):
        """The mask, or the error of a picture: a device that was lost is opened again, once."""
        try:
            return self.segmenter(file)
        except fullconv.Error as error:
            return error

    def written(self, path, mask):
        """Writes a mask, and returns its row."""
        target = os.path.join(self.output, self.longer.get(path, stem(path)) + MASK)
        # Under a temporary name, then renamed: whole at any time, and the same after a retry.
        mask.save(target)
        classes = [{"id": i, "name": mask.class_name(i), "share": share} for i, share in mask.found()]
        return {"path": path, "mask": target, "width": mask.width, "height": mask.height, "classes": classes}


def node():
    return ray.util.get_node_ip_address()


def own_device():
    """A device for this actor alone, and the lock that keeps it if Ray does not."""
    lent = ray.get_gpu_ids()
    if lent:
        # Ray says which GPU is the actor's by CUDA_VISIBLE_DEVICES, which means nothing to Vulkan.
        query = ["nvidia-smi", "-i", str(lent[0]), "--query-gpu=pci.bus_id", "--format=csv,noheader"]
        try:
            found = subprocess.run(query, capture_output=True, text=True, timeout=60, check=True)
        except (OSError, subprocess.SubprocessError) as reason:
            raise Refused(
                f"node {node()}: nvidia-smi does not tell where GPU {lent[0]} is ({reason}); start nodes with other GPUs "
                "by ray start --resources='{\"vulkan\": COUNT}'"
            ) from None
        return f"pci:{found.stdout.strip()}", None
    return held_device(fullconv.devices(), tempfile.gettempdir())


def held_device(devices, folder):
    """The first GPU that no other process holds, and the lock on it, a file in `folder`."""
    for device in devices:
        if device.backend != "vulkan" or device.kind == "CPU" or device.trouble:
            continue
        name = f"fullconv-ray-{(device.pci_address or str(device.index)).replace(':', '-')}.lock"
        lock = open(os.path.join(folder, name), "w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        return str(device.index), lock
    raise Refused(f"node {node()} has no GPU that no actor holds: its resource \"vulkan\" is more than its GPUs")


# -- in the driver ---------------------------------------------------------------------------------------------------


def pictures_in(folder, recursive):
    """The absolute paths of the pictures, and the number of other files by ending."""
    pictures, others, folders = [], Counter(), [folder]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                name = entry.name.lower()
                ending = os.path.splitext(name)[1]
                if name.startswith(".") or name.endswith(RESULTS) or ".probability." in name:
                    continue
                # A link to a folder is not followed: it may lead into a circle. Reading a pipe would wait.
                if entry.is_dir(follow_symlinks=False):
                    folders += [entry.path] if recursive else []
                elif entry.is_file() and ending[1:] in ENDINGS:
                    pictures.append(entry.path)
                else:
                    others[ending or "without an ending"] += 1
    if not pictures:
        raise Refused(f"no picture is in folder {folder}")
    return sorted(pictures), others


def stem(path):
    return os.path.splitext(os.path.basename(path))[0]


def digest_of(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hold(output, about):
    """Keeps the folder for this run, and refuses one that has masks of another model."""
    path = output / "run.json"
    file = open(path, "a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Refused(f"another run writes to {output}: wait for its end, or give another -o") from None
    except OSError:
        pass  # Some network file systems have no locks.
    file.seek(0)
    text = file.read()
    try:
        before = json.loads(text) if text else about
    except ValueError:
        raise Refused(f"{path} is not of an earlier run: give another -o") from None
    if before != about:
        other = ", ".join(key for key in about if before.get(key) != about[key])
        raise Refused(f"{output} has masks that were made with another {other}: give another -o")
    if not text:
        file.write(json.dumps(about))
        file.flush()
    return file


def rows_of(output, columns):
    """The rows of the manifest as a table, without files that a killed run did not finish: the next run removes them."""
    unfinished = tuple(
        path.name.removesuffix(".pending.parquet") for path in (output / "checkpoint").glob("*.pending.parquet")
    )
    files = [str(path) for path in (output / "manifest").glob("*.parquet")]
    files = [path for path in files if not (unfinished and os.path.basename(path).startswith(unfinished))]
    return pa.dataset.dataset(files, schema=SCHEMA).to_table(columns=columns)


def check_masks(output, pictures, longer):
    """Refuses to overwrite the mask of a picture that is gone by that of another of the same name."""
    before = rows_of(output, ["path", "mask"]).to_pydict()
    owner = {os.path.basename(mask): path for mask, path in zip(before["mask"], before["path"], strict=True) if mask}
    done = set(before["path"])
    for path in pictures:
        mask = longer.get(path, stem(path)) + MASK
        if path not in done and mask in owner:
            raise Refused(f"{output / mask} is the mask of {owner[mask]}, not of {path}: rename the picture")


def connect(args):
    """Connects to Ray and returns the number of actors and what Ray gives each."""
    if args.address or os.environ.get("RAY_ADDRESS"):
        ray.init(address=args.address, logging_level=logging.WARNING)
    else:
        cpus = max(4, os.cpu_count() or 1)
        ray.init(address="local", num_cpus=cpus, include_dashboard=False, logging_level=logging.WARNING)
    there = ray.cluster_resources()
    if args.device != "auto":
        actors, each = args.actors or 1, {}
    else:
        # A node that was given the resource "vulkan" has it for this.
        kind = next((kind for kind in ("vulkan", "GPU") if there.get(kind, 0) >= 1), None)
        if kind is None:
            raise Refused(
                "no node has a GPU that Ray knows: start nodes with ray start --resources='{\"vulkan\": COUNT}', or give "
                "--device (cpu is the reference, slow but right)"
            )
        actors = args.actors or int(there[kind])
        if actors > there[kind]:
            raise Refused(f"the cluster has {there[kind]:.0f} of the resource {kind}, fewer than --actors {actors}")
        each = {"num_gpus": 1} if kind == "GPU" else {"resources": {"vulkan": 1}}
    needed = CPUS_OF_THE_REST + actors * CPUS_OF_ACTOR
    if there.get("CPU", 0) < needed:
        raise Refused(f"Ray has {there.get('CPU', 0):.0f} CPUs, and the job would wait for {needed:g} for ever")
    return actors, each


def label(args, pictures, longer, digest, output):
    """Runs the job."""
    actors, each = connect(args)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = sys.stderr.isatty()
    # Before the dataset is made: later it would be without effect.
    context.checkpoint_config = CheckpointConfig(
        id_column="path", checkpoint_path=str(output / "checkpoint"), delete_checkpoint_on_success=False
    )
    blocks = -(-len(pictures) // args.block)
    files = ray.data.read_binary_files(pictures, include_paths=True, override_num_blocks=blocks)
    rows = files.map_batches(
        Label,
        fn_constructor_kwargs={
            "model": args.model,
            "digest": digest,
            "output": str(output),
            "device": args.device,
            "precision": args.precision,
            "longer": longer,
        },
        compute=ray.data.ActorPoolStrategy(size=actors),
        # None would be a whole block.
        batch_size=args.batch,
        batch_format="pyarrow",
        num_cpus=CPUS_OF_ACTOR,
        **each,
    )
    rows.write_parquet(str(output / "manifest"))


def report(output, pictures):
    """Prints what became of the pictures, and returns the number of those that failed."""
    rows = rows_of(output, ["path", "error"]).to_pydict()
    of = Counter(rows["path"])
    missing = [path for path in pictures if of[path] == 0]
    if missing:
        raise Refused(f"{len(missing)} pictures have no row in the manifest, such as {missing[0]}: run it again")
    doubled = [path for path in pictures if of[path] > 1]
    if doubled:
        raise Refused(f"{len(doubled)} pictures have several rows in the manifest, such as {doubled[0]}: give another -o")
    given = set(pictures)
    both = zip(rows["path"], rows["error"], strict=True)
    failed = [(path, error) for path, error in both if error and path in given]
    for path, error in failed[:SHOWN]:
        print(f"{path}: {error}", file=sys.stderr)
    print(f"{len(pictures)} pictures: {len(pictures) - len(failed)} masks, {len(failed)} failed: {output / 'manifest'}")
    return len(failed)


def run(args):
    folder, output, args.model = (os.path.abspath(path) for path in (args.folder, args.output, args.model))
    output = Path(output)
    # What is wrong with the model is said here, not by each actor.
    fullconv.Segmenter(args.model, device="cpu").close()
    digest = digest_of(args.model)
    pictures, others = pictures_in(folder, args.recursive)
    if others:
        print("left out: " + ", ".join(f"{count} {ending}" for ending, count in others.items()), file=sys.stderr)
    # Only the names that are not the picture's stem: there may be a million pictures.
    longer = {path: name for path, name in names(pictures).items() if name != stem(path)}
    for name in ("manifest", "checkpoint"):
        (output / name).mkdir(parents=True, exist_ok=True)
    about = {"folder": folder, "model": digest, "precision": args.precision, "version": fullconv.__version__}
    with hold(output, about):
        check_masks(output, pictures, longer)
        try:
            label(args, pictures, longer, digest, output)
        finally:
            # What Ray has to say is said before the last line.
            ray.shutdown()
        failed = report(output, pictures)
        return 1 if failed and not args.accept_failures else 0


def reason_of(error):
    """An error in a line. Those of Ray hold the worker's, after its traceback and before what Ray adds."""
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    text, _, _ = str(error).partition("\nThe above exception was the direct cause")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return re.sub(r"^[\w.]*(Error|Exception|Refused): ", "", lines[-1]) if lines else type(error).__name__


def count(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1 on")
    return int(text)


class Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(2, f"{self.prog}: {message}; --help lists the options\n")


def parsed(given=None):
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("folder", help="the folder of the pictures")
    add("-m", "--model", required=True, metavar="FILE", help="the model file (.safetensors)")
    add("-o", "--output", required=True, metavar="RESULTS", help="the folder for masks and manifest, made if missing")
    add("--recursive", action="store_true", help="take the pictures in the folders of the folder too")
    add("--device", default="auto",
        help='"cpu", or an index or a part of the name of a device, for all actors [default: a GPU of its own for each]')
    add("--precision", default="f32", choices=["f32", "f16"], help="of stored activations and weights [default: f32]")
    add("--actors", type=count, metavar="N", help="default: one for each GPU; 1 with --device")
    add("--batch", type=count, default=16, metavar="N", help="pictures that an actor holds at a time [default: 16]")
    add("--block", type=count, default=256, metavar="N",
        help="pictures of a block, which has a file of the manifest and is what a kill costs [default: 256]")
    add("--accept-failures", action="store_true", help="end with status 0 though pictures failed, not 1")
    add("--address", help='a running cluster, such as "auto" [default: RAY_ADDRESS, else Ray is started here]')
    return parser.parse_args(given)


def main():
    args = parsed()
    try:
        return run(args)
    except KeyboardInterrupt:
        print("interrupted: the same command goes on where it was", file=sys.stderr)
        return 130
    except (Refused, fullconv.Error, OSError, ConnectionError, ray.exceptions.RayError) as error:
        print(f"error: {reason_of(error)}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
