"""SC-ImageNet (Huang et al., ICCV 2023): the authors' release, or Parquet shards as we write them.

    Layout/large/{trn,val}.txt                 one ``<n>-<source id>-<target id>:<wnid>`` a line
    PairAnnotation/{trn,val}/<pair id>.json    keys as in SPair-71k
    JPEGImages/<wnid>/<wnid>_<id>.JPEG         the user's own ImageNet, not part of the release

Parquet, preferred when there (``shards.write_pairs`` makes it; generated sets have this form):

    pairs/<split>-00000-of-00016.parquet, ...  columns of ``schema.pair_features``; class names in the schema
    pairs/<split>.json                         record: counts, sizes of the shards, manifest_sha256
    images/<split>-*.parquet                   optional: columns of ``schema.image_features``

Image paths in the shards are relative to the image root: ``imagenet_dir`` (ImageNet's folder, or the one that holds
the classes of a generated set), else ``<root>/JPEGImages``, else, where all classes are wnids, ``IMAGENET_ROOT``. Where
none is there the pairs are read and their images stay paths, below ``<root>/JPEGImages``. The 679 wnids are not
published, so the class list is the distinct wnids of the release's own split lists, sorted; folders of images
are never listed for it.
"""

from __future__ import annotations

import os
from pathlib import Path

from sc_imagenet.core.files import files_in
from sc_imagenet.data import imagenet
from sc_imagenet.data.roots import IMAGENET_ROOT
from sc_imagenet.sources.source import Annotation, DataSet, Entry, Size, Source, lacking, strangers
from sc_imagenet.sources.spair_71k import pair_file, split_pair_id, unlisted
from sc_imagenet.sources.tables import read_lines, read_pair_json

FOLDERS = {"train": "trn", "validation": "val", "test": "test"}

DATA_SET = DataSet(
    name="sc-imagenet",
    threshold="bbox",
    title="SC-ImageNet",
    paper="Huang et al., ICCV 2023",
    licence="non-commercial research, signed agreement with the authors; images: ImageNet's terms",
    homepage="https://github.com/21210240056/SC-ImageNet",
    splits=("train", "validation"),
    pairs={},
    all_pairs=794_612,
    images=113_516,
    classes=679,
    points="32 (files may hold up to 40)",
    manual=(
        "1. Sign the agreement in the README at github.com/21210240056/SC-ImageNet and mail it to the "
        "authors, whose addresses are given there: they ask for it before access.\n"
        "2. The same README holds the link. Get all of SC-IMAGENET.tar.gz.part.*, join them with "
        "cat SC-IMAGENET.tar.gz.part.* > SC-IMAGENET.tar.gz, and unpack that with tar xzf so that "
        "SC-IMAGENET/Layout lies in your data root.\n"
        "3. Get the ImageNet images yourself: ILSVRC2012_img_train.tar from image-net.org after "
        "registering, or ILSVRC/imagenet-1k on the Hugging Face Hub after accepting its terms.\n"
        "4. Set IMAGENET_ROOT to the folder that holds <wnid>/<wnid>_<number>.JPEG."
    ),
    configs=("pairs", "images"),
    folders=("SC-IMAGENET", "SC-ImageNet", "sc_imagenet"),
    layout=(
        "sc-imagenet/Layout/large/{trn,val}.txt\n"
        "sc-imagenet/PairAnnotation/{trn,val}/<pair id>.json\n"
        "sc-imagenet/JPEGImages/<wnid>/<image>.JPEG\n"
        "or $IMAGENET_ROOT/<wnid>/<image>.JPEG for the images"
    ),
)


class ScImageNet(Source):
    """SC-ImageNet and sets generated like it."""

    name = "sc-imagenet"

    def shards(self, config: str, split: str) -> list[Path]:
        """The Parquet files of a split, if the root is of that form."""
        return [path for path in files_in(self.root / config, ".parquet") if path.name.startswith(f"{split}-")]

    def missing(self, split: str) -> str | None:
        if self.shards("pairs", split):
            return None
        for needed in (self._list(split), self._annotations(split)):
            if why := lacking(needed):
                return f"{self.root / 'pairs' / split}-*.parquet is not there and {why}"
        return None

    def categories(self) -> tuple[str, ...]:
        lists = [split for split in FOLDERS if not lacking(self._list(split))]
        return tuple(sorted({wnid for split in lists for _, _, _, wnid in self._lines(split)}))

    def image_root(self) -> Path | None:
        if self.options.imagenet_dir is not None:
            folder = Path(self.options.imagenet_dir).expanduser()
            if any((folder / name).is_dir() for name in self._own_classes()):
                return folder.resolve()
            if imagenet.is_data_set(self.options.imagenet_dir):
                return imagenet.cached_images(self.options.imagenet_dir)
            return imagenet.train_folder(self.options.imagenet_dir)
        own = self.root / "JPEGImages"
        if own.is_dir():
            return own
        if os.environ.get(IMAGENET_ROOT) and not self._own_classes():
            return imagenet.train_folder(os.environ[IMAGENET_ROOT])
        return None

    def entries(self, split: str) -> list[Entry]:
        if packed := self.shards("pairs", split):
            return [entry for shard in packed for entry in _entries_of(shard)]
        entries = []
        for pair_id, source, target, wnid in self._lines(split):
            images = (f"{wnid}/{wnid}_{source}.JPEG", f"{wnid}/{wnid}_{target}.JPEG")
            entries.append(Entry(pair_id, wnid, *images, split))
        given = self.options.imagenet_dir
        if given is not None and imagenet.is_data_set(given):
            imagenet.extract_images(given, {image for entry in entries for image in (entry.source, entry.target)})
        return entries

    def annotation(self, entry: Entry, source_size: Size | None, target_size: Size | None) -> Annotation:
        return read_pair_json(pair_file(self._annotations(entry.annotation), entry.pair_id))

    def fingerprint(self, split: str) -> tuple[list[Path], list[Path]]:
        images = self.image_root()
        lists = [self._list(each) for each in FOLDERS if self._list(each).exists()]  # all make the class list
        return lists, [self._annotations(split), *([images] if images else [])]

    def strays(self) -> list[Path]:
        if (self.root / "pairs").is_dir():
            return strangers(self.root / "pairs", (".parquet", ".json"))
        return [path for split in FOLDERS for path in unlisted(self._annotations(split), self._list(split))]

    def _own_classes(self) -> tuple[str, ...]:
        """The classes of a generated set whose photographs are not ImageNet's, by their wnids; () of any other."""
        found = files_in(self.root / "pairs", ".parquet")
        if not found:
            return ()
        from sc_imagenet.data import shards  # and with it torch, which the release does without

        names = shards.category_names(shards.open_parquet(found[0]).schema_arrow, found[0])
        return () if all(map(imagenet.WNID.fullmatch, names)) else names

    def _lines(self, split: str) -> list[tuple[str, str, str, str]]:
        where = self._list(split)
        return [split_pair_id(line, where, number) for number, line in enumerate(read_lines(where), start=1)]

    def _list(self, split: str) -> Path:
        return self.root / "Layout" / "large" / f"{FOLDERS[split]}.txt"

    def _annotations(self, split: str) -> Path:
        return self.root / "PairAnnotation" / FOLDERS[split]


def _entries_of(shard: Path) -> list[Entry]:
    """The pairs of a Parquet file; their points stay in it."""
    from sc_imagenet.data import shards  # and with it torch, which lists of pairs do without

    parquet = shards.open_parquet(shard)
    categories = shards.category_names(parquet.schema_arrow, shard)
    schema = shards.features_of("pairs", categories).arrow_schema
    return [
        Entry(row["pair_id"], categories[row["category"]], row["source"]["path"], row["target"]["path"], shard)
        for table in shards.read_batches(parquet, schema, shard)
        for row in table.select(["pair_id", "category", "source", "target"]).to_pylist()
    ]
