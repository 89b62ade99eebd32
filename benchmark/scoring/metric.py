"""The metric for anybody's loop: pairs go in one by one or in batches, scores under any protocols come out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from benchmark.scoring.bootstrap import Quantity, Score, scores
from benchmark.scoring.details import notes_on_details, protocol_quantities
from benchmark.scoring.frames import ProtocolFrame
from benchmark.scoring.predictions import NOWHERE, Predictions, joined, predictions_of_pairs, without_repeats
from benchmark.scoring.protocol import Protocol
from benchmark.scoring.protocols import protocols_named
from sc_imagenet.core.errors import InputError


@dataclass(frozen=True)
class Scores(Mapping[str, Mapping[str, Score]]):
    """Scores in percent by protocol and name: ``scores["geoaware@1"]["pck@0.1/image"].value``.

    ``left_out`` says why a protocol could not be had; ``empty`` counts pairs without a point to score; ``notes`` say
    what else a reader of the scores must know, such as that only a part of the data set was predicted.
    """

    by_protocol: Mapping[str, Mapping[str, Score]]
    pairs: int
    points: int
    empty: int = 0
    left_out: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __getitem__(self, protocol: str) -> Mapping[str, Score]:
        return self.by_protocol[protocol]

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_protocol)

    def __len__(self) -> int:
        return len(self.by_protocol)

    def pck(self, alpha: float = 0.1, protocol: str | None = None) -> float:
        """PCK at an alpha in percent, as a protocol's paper prints it; of the first protocol where none is named.

        Raises:
            InputError: as ``headline``.
        """
        return self.headline(next(iter(self)) if protocol is None else protocol, alpha).value

    def headline(self, protocol: str, alpha: float = 0.1) -> Score:
        """The score that the protocol's paper prints, at an alpha.

        Raises:
            InputError: the protocol was not asked for or has no such alpha.
        """
        found = self.by_protocol.get(protocol, {})
        name = next((name for name in found if name.startswith(f"pck@{alpha:g}/")), None)
        if name is None:
            raise InputError(f"there is no PCK@{alpha:g} under {protocol!r}", fix=f"Scored: {', '.join(self)}")
        return found[name]

    def latex_row(self, label: str, alpha: float = 0.1, decimals: int = 1) -> str:
        """A row of a LaTeX table: the label and the headline of each protocol."""
        cells = [f"{self.headline(protocol, alpha).value:.{decimals}f}" for protocol in self]
        return " & ".join([label, *cells]) + r" \\"


class PCK:
    r"""PCK under named protocols, of pairs that a loop hands in.

    >>> metric = PCK(["strict@1", "geoaware@1"], dataset="spair-71k")
    >>> metric.update(
    ...     predicted_points=[[12, 20], [30, 41]],
    ...     target_points=[[10, 20], [30, 40]],
    ...     target_size=(200, 100),
    ...     target_bbox=(0, 0, 50, 40),
    ...     category="cat",
    ... )
    >>> print(metric.compute(draws=0).latex_row("mine"))
    mine & 100.0 & 100.0 \\

    Args:
        protocols: names such as ``geoaware@1`` or ``Protocol`` objects.
        dataset: of the catalogue; ids and thresholds are taken to be its.
        frame: that predicted points lie in, ``original`` or as ``letterbox-840``.
        model: of ours, whose frame ``paper-2021@1`` takes.
    """

    def __init__(
        self,
        protocols: str | Sequence[str | Protocol] = "strict@1",
        dataset: str = "",
        frame: str = "original",
        model: str = "",
    ) -> None:
        self.protocols = protocols_named(protocols)
        for protocol in self.protocols:
            protocol.for_data(dataset, model)  # refuse before the loop, not after it
        self.info = replace(NOWHERE, dataset=dataset, model=model)
        self.frame = ProtocolFrame.parse(frame)
        self._parts: list[Predictions] = []

    def update(self, **pair: Any) -> None:
        """Add a pair, or a batch of pairs.

        The entries are those of ``predictions_of_pairs``. A batch has ``predicted_points`` (B, K, 2) and B of every
        other entry; points that are only padding have a 0 in ``target_visible`` (B, K).

        Raises:
            InputError: an entry is missing or of the wrong shape.
        """
        predicted = pair.get("predicted_points")
        if _depth(predicted) < 3:
            self._add([pair])
            return
        assert predicted is not None
        count = len(predicted)
        for name, value in pair.items():
            if value is not None and len(value) != count:
                raise InputError(f"{name} has {len(value)} entries for a batch of {count} pairs")
        self._add([{name: v[row] for name, v in pair.items() if v is not None} for row in range(count)])

    def _add(self, pairs: list[dict[str, Any]]) -> None:
        named = [pair if pair.get("pair_id") is not None else {**pair, "pair_id": ""} for pair in pairs]
        self._parts.append(replace(predictions_of_pairs(named, self.info), frame=self.frame))

    def merge(self, other: PCK) -> None:
        """Add what another process' metric holds.

        Raises:
            InputError: it has other protocols, another data set or frame.
        """
        mine, theirs = (
            ([str(p) for p in each.protocols], each.info.dataset, str(each.frame)) for each in (self, other)
        )
        if mine != theirs:
            raise InputError(f"metrics of {theirs} cannot be merged into those of {mine}")
        self._parts += other._parts

    def reset(self) -> None:
        """Forget all pairs."""
        self._parts = []

    def predictions(self) -> Predictions:
        """All pairs so far, in the order of their ids, each once; as they came where they have none.

        A pair that came twice with the same prediction, as samplers of several processes hand out, counts once.

        Raises:
            InputError: there is none, or one came twice with different predictions.
        """
        if not self._parts:
            raise InputError("no pair was handed to the metric", fix="Call update before compute.")
        whole = joined(self._parts)
        self._parts = [whole]
        return without_repeats(whole)

    def compute(self, draws: int = 1000, seed: int = 0, details: Sequence[str] = ()) -> Scores:
        """Scores of all pairs so far, with 95 % intervals over ``draws`` bootstrap draws (0: without).

        The order in which pairs came, and how many processes they came from, changes nothing where pairs have ids.

        Raises:
            InputError: there is no pair, or no point to score.
        """
        return score_protocols(self.predictions(), self.protocols, draws, seed, details)


def score_protocols(
    predictions: Predictions,
    protocols: Sequence[Protocol],
    draws: int = 1000,
    seed: int = 0,
    details: Sequence[str] = (),
) -> Scores:
    """Scores under each protocol; those that these predictions have no boxes for are left out, with the reason.

    Raises:
        InputError: no pair has a point to score, or no protocol at all can be had.
    """
    info, points = predictions.info, int(predictions.mutual.sum())
    if not points:
        raise InputError(f"no pair of {info.dataset or 'these predictions'} has a point to score")
    made: dict[str, list[Quantity]] = {}
    left_out: dict[str, str] = {}
    for protocol in protocols:
        try:
            resolved = protocol.for_data(predictions.dataset, info.model, info.size, info.protocol)
            made[str(protocol)] = list(protocol_quantities(predictions, resolved, details))
        except InputError as error:
            left_out[str(protocol)] = str(error)
    if not made:
        raise InputError(next(iter(left_out.values())))
    flat = [replace(each, name=f"{name}\n{each.name}") for name, parts in made.items() for each in parts]
    found = scores(flat, predictions.categories, draws, seed)
    by_protocol = {name: {each.name: found[f"{name}\n{each.name}"] for each in parts} for name, parts in made.items()}
    filled = np.bincount(predictions.owner[predictions.mutual], minlength=len(predictions)) > 0
    notes = notes_on_details(predictions, details)
    return Scores(by_protocol, len(predictions), points, int((~filled).sum()), left_out, notes)


def _depth(value: Any) -> int:
    """How many indices a nested list, an array or a tensor takes."""
    if hasattr(value, "ndim"):
        return int(value.ndim)
    depth = 0
    while isinstance(value, (list, tuple)) and len(value):
        value, depth = value[0], depth + 1
    return depth + int(getattr(value, "ndim", 0))
