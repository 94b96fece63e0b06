"""The pictures of a folder."""

import os
import sys
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _fullconv
from .errors import Error, RequestError
from .masks import Mask

if TYPE_CHECKING:
    from .segmenter import Segmenter

MASK, OVERLAY = ".mask.png", ".overlay.png"
# Endings of results of the command line, which are no pictures to segment.
RESULTS = (MASK, OVERLAY, ".heatmap.png", ".stages.png")
# A file of these endings is a picture whatever it holds: it may be damaged.
ENDINGS = frozenset("jpg jpeg jpe jfif png webp tif tiff bmp gif pnm pbm pgm ppm pam npy".split())
# The bytes that tell a picture's format.
HEAD = 512
PNG_END = b"\0\0\0\0IEND\xae\x42\x60\x82"


@dataclass
class FolderReport:
    """What became of a folder's pictures."""

    done: list[Path] = field(default_factory=list)
    """The pictures whose results were written."""
    skipped: list[Path] = field(default_factory=list)
    """Those whose results were there."""
    failed: dict[Path, Exception] = field(default_factory=dict)
    """Those that failed, with the reason."""
    left_out: list[Path] = field(default_factory=list)
    """The files that are no pictures, or of a format that is not read."""

    def __repr__(self) -> str:
        counts = (f"{len(getattr(self, name))} {name.replace('_', ' ')}" for name in ("done", "skipped", "failed", "left_out"))
        return f"FolderReport: {', '.join(counts)}"


def is_picture(path: Path) -> bool:
    """Whether a file is a picture to segment: by its content, or its ending if that does not tell."""
    name = path.name.lower()
    if name.startswith(".") or name.endswith(RESULTS) or ".probability." in name or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            known = _fullconv.picture_format(file.read(HEAD))
    except OSError:
        known = None
    return path.suffix[1:].lower() in ENDINGS if known is None else known


def names(pictures: Sequence[str]) -> dict[str, str]:
    """The name of each picture's results without their endings, as `fullconv segment` gives it: the stem; for pictures of
    one stem with the picture's ending; for pictures of one name after the folders below the one that all share."""
    common = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in pictures])

    def name(path: str, level: int) -> str:
        file = os.path.basename(path)
        if level < 2:
            return os.path.splitext(file)[0] if level == 0 else file
        return os.path.relpath(path, common).replace(os.sep, "_")

    levels = dict.fromkeys(pictures, 0)
    while True:
        users: dict[str, list[str]] = defaultdict(list)
        for path, level in levels.items():
            # File names on these systems are usually case-insensitive.
            key = name(path, level)
            users[key.lower() if sys.platform in ("win32", "darwin") else key].append(path)
        clashing = [group for group in users.values() if len(group) > 1]
        if not clashing:
            return {path: name(path, level) for path, level in levels.items()}
        raised = [path for group in clashing for path in group if levels[path] < 2]
        if not raised:
            first, second = clashing[0][:2]
            raise RequestError(f"{first} and {second} would have the same mask: rename one of them")
        for path in raised:
            levels[path] += 1


def _is_whole(result: Path, newest: float) -> bool:
    try:
        found = result.stat()
        if found.st_mtime < newest or found.st_size < len(PNG_END):
            return False
        with result.open("rb") as file:
            file.seek(-len(PNG_END), os.SEEK_END)
            return file.read() == PNG_END
    except OSError:
        return False


def _results(base: Path, overlay: bool) -> list[Path]:
    return [base.with_name(base.name + ending) for ending in ((MASK, OVERLAY) if overlay else (MASK,))]


def segment_folder(
    segmenter: "Segmenter",
    folder: str | os.PathLike[str],
    output: str | os.PathLike[str],
    overlay: bool,
    resume: bool,
    progress: bool | Callable[[int, int], None],
    raises: bool,
) -> FolderReport:
    """`Segmenter.segment_folder`."""
    report = FolderReport()
    files = sorted(path for path in Path(folder).iterdir() if path.is_file())
    pictures = [path for path in files if is_picture(path)]
    chosen = set(pictures)
    report.left_out = [path for path in files if path not in chosen]
    if not pictures:
        raise RequestError(f"no picture is in folder {folder}; left out: {len(report.left_out)} files")
    named = names([str(picture) for picture in pictures])
    jobs = [(picture, Path(output, named[str(picture)])) for picture in pictures]
    if resume:
        model = segmenter._source.path
        of_model = os.stat(model).st_mtime if model is not None else 0.0

        def is_done(picture: Path, base: Path) -> bool:
            newest = max(picture.stat().st_mtime, of_model)
            return all(_is_whole(result, newest) for result in _results(base, overlay))

        report.skipped = [picture for picture, base in jobs if is_done(picture, base)]
        skipped = set(report.skipped)
        jobs = [job for job in jobs if job[0] not in skipped]
    Path(output).mkdir(parents=True, exist_ok=True)
    with _Progress(progress, len(jobs)) as bar:
        for picture, failure in _segmented(segmenter, jobs, overlay):
            if failure is None:
                report.done.append(picture)
            elif raises:
                raise failure
            else:
                report.failed[picture] = failure
            bar.step()
    return report


def _segmented(
    segmenter: "Segmenter", jobs: list[tuple[Path, Path]], overlay: bool
) -> Iterator[tuple[Path, Exception | None]]:
    """The pictures in order, each with its failure: some are read and others written while the device works."""
    threads = min(4, os.cpu_count() or 1)
    ahead = threads + _fullconv.DEPTH

    def done(picture: Path, base: Path) -> None:
        decoded = segmenter._picture(picture)
        mask = Mask._of(segmenter._engine().submit(decoded).wait(), decoded)
        write(mask, base)

    def write(mask: Mask, base: Path) -> None:
        results = _results(base, overlay)
        if overlay:
            mask.save_overlay(results[1])
        # The mask last: where it is, everything is.
        mask.save(results[0])

    under_way: deque[tuple[Path, Future[None]]] = deque()
    with ThreadPoolExecutor(ahead, "fullconv") as pool:
        try:
            waiting = iter(jobs)
            while True:
                while len(under_way) < ahead and (job := next(waiting, None)) is not None:
                    under_way.append((job[0], pool.submit(done, *job)))
                if not under_way:
                    return
                picture, future = under_way.popleft()
                yield picture, _failure(future)
        finally:
            for _, future in under_way:
                future.cancel()


def _failure(future: "Future[None]") -> Exception | None:
    try:
        future.result()
    except (Error, OSError) as error:
        return error
    return None


class _Progress:
    """A bar of tqdm, a function, or nothing."""

    def __init__(self, wanted: bool | Callable[[int, int], None], total: int) -> None:
        self.bar: Any = None
        self.call = wanted if callable(wanted) else None
        self.done, self.total = 0, total
        if wanted is True:
            try:
                from tqdm.auto import tqdm
            except ImportError:
                raise ImportError("progress=True shows a bar of tqdm: pip install tqdm, or give a function") from None
            self.bar = tqdm(total=total, unit="picture")

    def step(self) -> None:
        self.done += 1
        if self.bar is not None:
            self.bar.update()
        if self.call is not None:
            self.call(self.done, self.total)

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()
