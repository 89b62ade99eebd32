"""How a model's authors scored it; without torch, since scores are taken without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from sc_imagenet.core.errors import InputError

PADDED = ("bbox-padded", "bbox-padded2", "bbox-kp")  # thresholds that papers took on PF-WILLOW
LARGEST = 1 << 20  # pixels of a frame's side


@dataclass(frozen=True)
class PublishedProtocol:
    """The frame, direction and threshold of the figures in a model's paper."""

    frame: int | None  # side of the resized frame; None: original pixels
    direction: Literal["forward", "backward"]
    padded: str = "bbox-padded"  # their threshold on PF-WILLOW

    def frame_on(self, dataset: str) -> int | None:
        """The frame on a data set of the catalogue: the box around PF-WILLOW's points is taken in original pixels.

        >>> PublishedProtocol(224, "backward", padded="bbox-kp").frame_on("pf-willow")
        >>> PublishedProtocol(224, "backward").frame_on("pf-willow")
        224
        """
        return None if dataset == "pf-willow" and self.padded == "bbox-kp" else self.frame

    @classmethod
    def read(cls, content: Any, where: object) -> PublishedProtocol:
        """The protocol that a file of predictions or a result holds.

        Raises:
            InputError: it is none.
        """
        try:
            found = cls(**content)
        except TypeError as error:
            raise InputError("holds a published protocol that is none", where=where) from error
        frame = found.frame
        whole = frame is None or (type(frame) is int and 0 < frame < LARGEST)
        if not whole or found.direction not in ("forward", "backward") or found.padded not in PADDED:
            raise InputError(f"holds a published protocol that is none: {content!r:.120}", where=where)
        return found
