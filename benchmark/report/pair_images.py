"""The two images of pairs by their ids, for pictures of stored predictions."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from PIL import Image

from sc_imagenet.core.errors import InputError
from sc_imagenet.data.checks import check_entry
from sc_imagenet.data.images import open_image
from sc_imagenet.data.set_name import generated_name
from sc_imagenet.sources import open_source
from sc_imagenet.sources.source import Entry


class PairImages:
    """The images of one split, opened when they are asked for.

    Reads the split's list of pairs alone: nothing is converted.

    Args:
        dataset: as predictions name it.
        split: of it.
        root: where it lies; else ``SC_DATA_ROOT``. Of a generated set its own folder.
        form: of a generated set, the data set of the catalogue that it is like.

    Raises:
        InputError: the data set or its images are not here; the message says how to get them.
    """

    def __init__(self, dataset: str, split: str, root: Path | None = None, form: str | None = None) -> None:
        if form is not None and (root is None or dataset not in (generated_name(root), root.absolute().name)):
            raise InputError(
                f"where the generated set {dataset} lies is not known", fix="Give its folder as --data-root."
            )
        source = open_source(form or dataset, root)
        folder = source.image_root()
        if folder is None or not folder.is_dir():
            raise InputError(f"the images of {dataset} are not here", where=folder)
        if (reason := source.missing(split)) is not None:
            raise InputError(f"'{split}' of {dataset} cannot be read: {reason}")
        self.folder = folder
        self.entries: dict[str, Entry] = {entry.pair_id: entry for entry in source.entries(split)}
        self._open = lru_cache(maxsize=4)(open_image)

    def of(self, pair_id: str) -> tuple[Image.Image, Image.Image]:
        """Source and target of a pair, in original pixels.

        Raises:
            InputError: no such pair, or an image that is missing or damaged.
        """
        if pair_id not in self.entries:
            raise InputError(f"pair {pair_id!r} is not in the data set here", where=self.folder)
        entry = self.entries[pair_id]
        check_entry(entry, self.folder)
        return self._open(self.folder / entry.source), self._open(self.folder / entry.target)
