"""Markdown tables, and the generated parts of a document."""

from collections.abc import Iterable, Sequence
from pathlib import Path


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], left: int) -> str:
    """A table; the first `left` columns are left-aligned, the others right-aligned."""
    marks = ["---" if i < left else "---:" for i in range(len(heads))]
    return "\n".join(f"| {' | '.join(row)} |" for row in [heads, marks, *rows])


def replace(document: Path, place: str, text: str) -> None:
    """Replaces the text between `<!-- begin PLACE -->` and `<!-- end PLACE -->`."""
    begin, end = f"<!-- begin {place} -->", f"<!-- end {place} -->"
    content = document.read_text()
    if content.count(begin) != 1 or content.count(end) != 1:
        raise SystemExit(f"{document}: needs `{begin}` and `{end}` exactly once each")
    before, rest = content.split(begin)
    after = rest.split(end)[1]
    document.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")
