"""Scores of predicted keypoints under every published protocol, on numpy and pyarrow alone.

>>> from benchmark.scoring import PCK, protocol
>>> print(protocol("geoaware@1").threshold)
box
"""

from benchmark.scoring.metric import PCK, Scores, score
from benchmark.scoring.protocols import get as protocol

__all__ = ["PCK", "Scores", "protocol", "score"]
