"""The checkpoints of the weakly supervised DHPF hold the same weights as those of the supervised one."""

from baselines.checkpoints.dhpf import PUBLISHED

__all__ = ["PUBLISHED"]
