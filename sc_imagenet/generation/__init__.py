"""The generator: a cascaded network that learns matches from class labels, and the pipeline around it.

Huang et al., ICCV 2023.
"""
