"""Scores of predicted keypoints under every published protocol, on numpy and pyarrow alone.

>>> from benchmark.scoring import PCK, protocol
>>> print(protocol("geoaware@1").threshold)
box
"""

from benchmark.scoring.metric import PCK, Scores, score_protocols
from benchmark.scoring.protocols import protocol_named as protocol

__all__ = ["PCK", "Scores", "protocol", "score_protocols"]
