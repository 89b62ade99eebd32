"""Our models beside the published ones: the same weights, the same pair, every intermediate array."""
