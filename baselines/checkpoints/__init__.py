"""Weights from outside into our models: published checkpoints, and what we saved ourselves.

matcher, sha256 = load_checkpoint("cats", "model_best.pth")  # or a folder, or OWNER/NAME of the Hub
"""

from baselines.checkpoints.loading import load_checkpoint, load_weights

__all__ = ["load_checkpoint", "load_weights"]
