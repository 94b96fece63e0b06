"""Tables, and the places in a document that are written by programs."""

from collections.abc import Iterable, Sequence
from pathlib import Path


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], left: int) -> str:
    """A table whose first `left` columns stand to the left, all others to the right."""
    marks = ["---" if i < left else "---:" for i in range(len(heads))]
    return "\n".join(f"| {' | '.join(row)} |" for row in [heads, marks, *rows])


def replace(document: Path, place: str, text: str) -> None:
    """Puts `text` between `<!-- begin PLACE -->` and `<!-- end PLACE -->`, leaving the rest."""
    begin, end = f"<!-- begin {place} -->", f"<!-- end {place} -->"
    content = document.read_text()
    if content.count(begin) != 1 or content.count(end) != 1:
        raise SystemExit(f"{document}: `{begin}` and `{end}` have to stand there once each")
    before, rest = content.split(begin)
    after = rest.split(end)[1]
    document.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")
