"""Pairs whose images are encoded once each: batches that hold features in place of images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from baselines.matcher import Direction, Features, Matcher
from benchmark.running.data import image_contents
from benchmark.running.features import (
    LIMIT,
    MB,
    Encoded,
    FeatureStore,
    check_mode,
    check_space,
    encoder_folder,
    encoder_identity,
    in_mb,
)
from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import sha256_of
from sc_imagenet.core.progress import say
from sc_imagenet.data.batches import load_images
from sc_imagenet.data.pairs import PairDataset, collate_pairs

SIDES = ("source", "target")
Role = Literal["source", "target"]
Image: TypeAlias = "tuple[Tensor, tuple[int, int]]"  # as a model takes it, and its original size


def roles(matcher: Matcher, direction: Direction) -> dict[str, Role]:
    """The role that a pair's source and target have; a model made for the other way is given the pair exchanged."""
    if direction == matcher.direction:
        return {"source": "source", "target": "target"}
    return {"source": "target", "target": "source"}


@torch.no_grad()
def encode(matcher: Matcher, images: Tensor, role: Role) -> list[list[Tensor]]:
    """Images (B, 3, S, S) -> the features (1, ...) of each.

    A processor sees one image at a time, so that what it makes of one depends on no other, not even in the rounding
    of sums; a GPU sees all.
    """
    call = matcher.encode_target if role == "target" else matcher.encode
    if images.device.type != "cpu":
        features = call(images)
        return [[each[i : i + 1].clone().contiguous() for each in features] for i in range(len(images))]
    return [[each.contiguous() for each in call(image[None])] for image in images]


def stacked(features: Sequence[Sequence[Tensor]]) -> Features:
    """The features (1, ...) of several images as those of a batch."""
    return [torch.cat(list(each)) for each in zip(*features)]


class EncodedPairs:
    """Pairs of which each distinct image is read and encoded when it is first needed.

    Args:
        matcher: the model, in evaluation mode as far as its encoder goes; ``encodes_alone``.
        pairs: the pairs, not augmented.
        direction: that points go, which tells an image's role.
        features: one of ``benchmark.running.features.MODES``.
        limit: most bytes of features in memory.
        workers: processes that load images; 0 loads in this one.
        quiet: say nothing of their size.

    Raises:
        InputError: no such mode.
    """

    def __init__(
        self,
        matcher: Matcher,
        pairs: PairDataset,
        direction: Direction,
        device: torch.device,
        *,
        features: str = "memory",
        limit: int = LIMIT * MB,
        workers: int = 0,
        quiet: bool = True,
    ) -> None:
        check_mode(features)
        self.matcher, self.pairs, self.device, self.workers, self.quiet = matcher, pairs, device, workers, quiet
        self.roles = roles(matcher, direction)
        self.mode = features
        self.encodings = 0
        self._folder: Path | None = None
        if features == "keep":
            self._folder = encoder_folder(encoder_identity(matcher, device))
        self.store = FeatureStore(limit, self._folder, device)
        self._images = self._named_images()
        self._keys = self._images
        if features == "off":  # every image of every pair is another one
            self._keys = {side: [f"{index}-{side}" for index in range(len(pairs))] for side in SIDES}
        self._uses: Counter[str] | None = None
        self._told = False

    def _named_images(self) -> dict[str, list[str]]:
        """The content of every row's images, and whatever else their features depend on that differs among rows."""
        contents = image_contents(self.pairs.rows)
        mirrored = ["-mirrored" if each else "" for each in self.pairs.rows.select_columns(["mirrored"])["mirrored"]]
        keys = {}
        for side in SIDES:
            role = f"-{self.roles[side]}" if self.matcher.encodes_by_role else ""
            keys[side] = [f"{content}{flip}{role}" for content, flip in zip(contents[side], mirrored)]
        return keys

    def order(self) -> list[int]:
        """The rows in an order in which images come back soon, whatever fits into memory.

        Pairs are points (source, target) of a square; they are taken along a curve that leaves a square of any size
        before it enters the next (Morton's), so that a small share of the images is at work at any time.
        """
        numbers: dict[str, int] = {}
        curve = []
        for index in range(len(self.pairs)):
            source, target = (numbers.setdefault(self._images[side][index], len(numbers)) for side in SIDES)
            curve.append((interleaved(source, target), index))
        return [index for _, index in sorted(curve)]

    def expect(self, rows: Sequence[int]) -> None:
        """Say which rows will be asked for, each once: features that none of the rest needs are forgotten."""
        self._uses = Counter(self._keys[side][index] for index in rows for side in SIDES)

    def batches(
        self, groups: Iterable[Sequence[int]], ahead: Iterable[Sequence[int]] | None = None
    ) -> Iterator[dict[str, Any]]:
        """A batch for each group of rows, as ``collate_pairs`` makes them of items, but with features for images.

        ``source_features`` and ``target_features`` are on the device.

        Args:
            groups: rows of each batch.
            ahead: those of the groups whose images are loaded ahead by the workers; all of them by default.

        Raises:
            InputError: an image cannot be read, has changed meanwhile or has another size than its row records; or
                features that are to be kept cannot be written.
        """
        wanted: dict[str, tuple[int, str]] = {}
        for key, place in self._places(chain.from_iterable(groups if ahead is None else ahead)):
            if key not in wanted and key not in self.store:
                wanted[key] = place
        images = load_images(self.pairs, list(wanted.values()), self.workers)
        coming = Coming(zip(list(wanted), images), set(wanted))
        for group in groups:
            yield self._batch(group, coming)

    def _places(self, rows: Iterable[int]) -> Iterator[tuple[str, tuple[int, str]]]:
        """The key of both images of every row, and where the image is."""
        for index in rows:
            for side in SIDES:
                yield self._keys[side][index], (index, side)

    def _batch(self, group: Sequence[int], coming: Coming) -> dict[str, Any]:
        places = list(self._places(group))
        found: dict[str, Encoded] = {}
        missing: dict[str, tuple[int, str]] = {}
        for key, place in places:
            if key in found or key in missing:
                continue
            if (encoded := self.store.get(key)) is None:
                missing[key] = place
            else:
                found[key] = encoded
        found |= self._encoded(missing, coming)
        items = []
        for index in group:
            row = self.pairs.rows[index]
            item: dict[str, Any] = {"index": index, "category": row["category"]}
            for side in SIDES:
                item.update(self.pairs.placed(side, row, found[self._keys[side][index]].size))
            items.append(item)
        batch: dict[str, Any] = dict(collate_pairs(items))
        for side in SIDES:
            batch[f"{side}_features"] = stacked([found[self._keys[side][index]].features for index in group])
        self._count_down(key for key, _ in places)
        return batch

    def _encoded(self, missing: Mapping[str, tuple[int, str]], coming: Coming) -> dict[str, Encoded]:
        """Images that are not in the store, read and encoded; those of one role together."""
        found: dict[str, Encoded] = {}
        read = {key: coming.image(key) or self.pairs.image(side, index) for key, (index, side) in missing.items()}
        for role in dict.fromkeys(self.roles[side] for _, side in missing.values()):
            keys = [key for key, (_, side) in missing.items() if self.roles[side] == role]
            if self.matcher.feature_folder is not None:
                found |= {key: Encoded(self._made_elsewhere(*missing[key]), read[key][1]) for key in keys}
                continue
            images = torch.stack([read[key][0] for key in keys]).to(self.device)
            for key, features in zip(keys, encode(self.matcher, images, role)):
                found[key] = Encoded(features, read[key][1])
        for key, encoded in found.items():
            self._check_unchanged(key, *missing[key])
            self._tell(encoded.nbytes)
            self.store.put(key, encoded)
        self.encodings += len(found)
        return found

    @torch.no_grad()
    def _made_elsewhere(self, index: int, side: str) -> list[Tensor]:
        """What the matcher takes of an array that another program made of a row's image."""
        folder, row = self.matcher.feature_folder, self.pairs.rows[index]
        assert folder is not None
        place = row[side]["path"]
        if row["mirrored"] or not place:
            what = "a mirrored image" if row["mirrored"] else "an image without a name"
            raise InputError(f"has no features of {what}", where=folder.folder, fix="Take another split or set.")
        features = folder.read(place, self._images[side][index])
        return [each.contiguous() for each in self.matcher.from_array(features.to(self.device))]

    def _check_unchanged(self, key: str, index: int, side: str) -> None:
        """What is kept for later runs is that of the image whose content names it."""
        if self._folder is None:
            return
        image = self.pairs.rows[index][side]
        if image["bytes"] is None and not key.startswith(sha256_of(image["path"])):
            raise InputError("was changed while it was encoded", where=image["path"], fix="Run again.")

    def _count_down(self, keys: Iterable[str]) -> None:
        """Note uses of features; those that were the last ones are dropped."""
        if self._uses is None and self.mode != "off":
            return
        for key in keys:
            left = 0 if self._uses is None else self._uses[key] - 1
            if self._uses is not None:
                self._uses[key] = left
            if left <= 0:
                self.store.drop(key)

    def _tell(self, nbytes: int) -> None:
        """Say what the features take before more than the first is kept, and see that there is room."""
        if self._told or self.mode == "off":
            return
        self._told = True
        keys = set(self._uses) if self._uses is not None else {key for keys in self._keys.values() for key in keys}
        new = sum(key not in self.store for key in keys)
        if self._folder is not None:
            check_space(new * nbytes, self._folder)
        if not self.quiet:
            most = f"at most {in_mb(self.store.limit)} in memory"
            rest = f"kept in {self._folder}" if self._folder is not None else "the rest on disk until the command ends"
            say(f"features of {new:,} images, {in_mb(nbytes)} each, {in_mb(new * nbytes)} in all: {most}, {rest}")


class Coming:
    """Images that are loaded ahead, in a known order, by the key of their features."""

    def __init__(self, loaded: Iterator[tuple[str, Image]], ahead: set[str]) -> None:
        self._loaded, self._ahead = loaded, ahead

    def image(self, key: str) -> Image | None:
        """The image of a key; those before it are passed over, which another process has encoded meanwhile.

        None where none is loaded: what was kept of it was deleted meanwhile.
        """
        if key not in self._ahead:
            return None
        for name, image in self._loaded:
            self._ahead.discard(name)
            if name == key:
                return image
        return None


def interleaved(column: int, row: int) -> int:
    """A number of the bits of both, in turn (Morton's).

    >>> [interleaved(x, y) for y in (0, 1) for x in (0, 1, 2)]
    [0, 1, 4, 2, 3, 6]
    """
    found = 0
    for bit in range(max(column, row).bit_length()):
        found |= ((column >> bit & 1) | (row >> bit & 1) << 1) << 2 * bit
    return found
