"""The generator: a cascaded network that learns matches from class labels, and the pipeline around it.

Huang et al., "Exploring the Weakly-supervised ... SC-ImageNet", ICCV 2023.
"""
