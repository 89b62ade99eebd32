"""Layers that models are built of; the models themselves are the files of ``baselines``."""
