"""Weights from outside into our models: published checkpoints, and what we saved ourselves.

matcher, sha256 = load_checkpoint("cats", "model_best.pth")
"""

from baselines.checkpoints.loading import load_checkpoint, load_weights

__all__ = ["load_checkpoint", "load_weights"]
