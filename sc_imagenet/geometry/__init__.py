"""Tensor geometry that every model shares: pure functions, no state.

Images are square frames of side S; a grid of h x w cells lies on it; cell (i, j) is row i, column j and its
flat index is i * w + j. Points are (x, y). A correlation volume is (B, N_source, N_target).
"""
