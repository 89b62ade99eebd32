"""PSC6K (Lu et al., ICML 2023): photographs and sketches of Sketchy, eight points a pair.

    test_pairs_ps.csv   photo, sketch, class, XA, YA, XB, YB (';'-separated, A is the photo)
    rendered_256x256/256x256/{photo,sketch}/tx_000100000000/<class>/<image>

``test`` has both directions of every row, as its authors' evaluation has; ``photo_to_sketch`` and ``sketch_to_photo``
have one. Images are 256 pixels wide and high, against which errors are measured. Where the paths of the list lie is
looked up at first use: below the folder above, or as they are.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from sc_imagenet.core.errors import InputError, check_name
from sc_imagenet.sources.source import Annotation, DataSet, Entry, Size, Source, lacking
from sc_imagenet.sources.tables import numbers, read_rows

LIST = "test_pairs_ps.csv"
IMAGES = "rendered_256x256/256x256"
VIEW = "tx_000100000000"
SIDE = 256

DATA_SET = DataSet(
    name="psc6k",
    title="PSC6K",
    paper="Lu et al., ICML 2023",
    licence="code and lists MIT; images: Sketchy's terms",
    homepage="https://github.com/cogtoolslab/photo-sketch-correspondence",
    splits=("test", "photo_to_sketch", "sketch_to_photo"),
    pairs={},
    images=None,
    classes=125,
    points="8",
    threshold="img",
    manual=(
        "1. Fetch https://photo-sketch-correspondence-6k.s3.amazonaws.com/PSC6K.zip; unpack it as psc6k in your data "
        "root, so that psc6k/test_pairs_ps.csv lies there.\n"
        "2. Sketchy's renderings (rendered_256x256) go beside it, where the archive does not hold them."
    ),
    folders=("PSC6K",),
    layout=f"psc6k/{LIST}\npsc6k/{IMAGES}/{{photo,sketch}}/{VIEW}/<class>/<image>",
)


class Psc6k(Source):
    """PSC6K's annotated test pairs."""

    name = "psc6k"

    def missing(self, split: str) -> str | None:
        return lacking(self.root / LIST)

    def categories(self) -> tuple[str, ...]:
        return tuple(sorted({row[2].strip() for _, row in self._rows()}))

    def image_root(self) -> Path | None:
        return self.root

    def entries(self, split: str) -> list[Entry]:
        entries = []
        for position, (line, row) in enumerate(self._rows()):
            category = check_name("class", row[2].strip(), self.root / LIST)
            photo, sketch = (self._image(kind, row[k], category) for k, kind in enumerate(("photo", "sketch")))
            stem = f"{position:05d}-{Path(photo).stem}-{Path(sketch).stem}"
            if split != "sketch_to_photo":
                entries.append(Entry(f"{stem}:{category}", category, photo, sketch, (line, row, False)))
            if split != "photo_to_sketch":
                entries.append(Entry(f"{stem}-back:{category}", category, sketch, photo, (line, row, True)))
        return entries

    def annotation(self, entry: Entry, source_size: Size | None, target_size: Size | None) -> Annotation:
        where = self.root / LIST
        line, row, backwards = entry.annotation
        x_a, y_a, x_b, y_b = (numbers(column.split(";"), where, line) for column in row[3:7])
        if not len(x_a) == len(y_a) == len(x_b) == len(y_b):
            raise InputError(f"line {line}: XA, YA, XB, YB are not as long", where=where, fix="Get the file again.")
        sides = [[list(point) for point in zip(x, y)] for x, y in ((x_a, y_a), (x_b, y_b))]
        source, target = reversed(sides) if backwards else sides
        size = (SIDE, SIDE)
        return Annotation(
            source, target, f"{where} line {line}", annotated_source_size=size, annotated_target_size=size
        )

    def fingerprint(self, split: str) -> tuple[list[Path], list[Path]]:
        return [self.root / LIST], [path for path in (self.root / IMAGES,) if path.is_dir()]

    def _rows(self) -> list[tuple[int, list[str]]]:
        return read_rows(self.root / LIST, columns=7)

    def _image(self, kind: str, path: str, category: str) -> str:
        """Where an image lies, below the root."""
        name = PurePosixPath(path.strip())
        places = (
            name,
            PurePosixPath(IMAGES) / name,
            PurePosixPath(IMAGES) / kind / VIEW / category / name.name,
        )
        return str(next((place for place in places[:2] if os.path.isfile(self.root / place)), places[2]))
