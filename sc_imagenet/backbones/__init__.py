"""Image networks of timm that models and the generator read features from, and their weights (see ``backbone``).

Importing this package imports no ``torch``.
"""

LITE0 = "tf_efficientnet_lite0"  # the default backbone; the ``offline`` extra brings its weights
