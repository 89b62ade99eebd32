"""Loops, by cliques and one by one, on matches whose errors are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from sc_imagenet.generation.loops import (
    Rules,
    choose_pairs,
    clique_loops,
    clique_scores,
    cliques,
    follow,
    independent_scores,
    keep_images,
    loop_offsets,
    own_places,
    shortfalls,
)

GRID = (6, 5)
CELLS = 30


def permuted(count, seed=0):
    """Exact matchings: image k shows the cells of a common object in its own order."""
    draw = np.random.default_rng(seed)
    order = [draw.permutation(CELLS) for _ in range(count)]
    own = own_places(GRID)
    places = np.empty((count, count, CELLS, 2), np.float32)
    for s in range(count):
        for t in range(count):
            places[s, t, order[s]] = own[order[t]]
    return places


def noisy(count, noise, seed=1):
    """Matchings of a common frame with an error of ``noise[k]`` cells in every match of image k."""
    draw = np.random.default_rng(seed)
    places = np.broadcast_to(own_places(GRID), (count, count, CELLS, 2)).copy()
    for s in range(count):
        for t in range(count):
            if s != t:
                places[s, t] += (noise[s] + noise[t]) * draw.standard_normal((CELLS, 2))
    return places


def matches(places):
    return lambda s, t: (places[list(s), list(t)], np.ones((len(s), CELLS), np.float32))


def test_loops_of_exact_matches_close():
    assert np.abs(loop_offsets(permuted(12), GRID)).max() == 0


def test_offsets_are_those_of_the_loops_followed_one_by_one():
    count, own = 5, own_places(GRID)
    places = noisy(count, np.full(count, 0.4))
    offset = loop_offsets(places, GRID)
    for s in range(count):
        for t in range(count):
            if s == t:
                continue
            third = [m for m in range(count) if m not in (s, t)]
            loops = [(s, m, t) for m in third] + [(s, t, m) for m in third]
            away = [
                np.linalg.norm(follow(follow(places[a, b], places[b, c], GRID), places[c, a], GRID) - own, axis=1)
                for a, b, c in loops
            ]
            np.testing.assert_allclose(offset[s, t], np.mean(away, 0), rtol=1e-5)


def test_a_clique_of_12_takes_132_matchings_and_holds_110_loops_for_each_image():
    asked = []
    places = noisy(12, np.full(12, 0.1))

    def match(s, t):
        asked.extend(zip(s, t))
        return matches(places)(s, t)

    found = clique_loops(range(12), match, GRID)
    assert len(asked) == len(set(asked)) == 132
    everywhere = np.ones((12, CELLS), bool)
    own = own_places(GRID)
    loops = [
        np.linalg.norm(follow(follow(places[0, m], places[m, t], GRID), places[t, 0], GRID) - own, axis=1).mean()
        for m in range(1, 12)
        for t in range(1, 12)
        if m != t
    ]
    assert len(loops) == 110
    assert found.image_scores(everywhere)[0] == pytest.approx(np.mean(loops), rel=1e-4)


@given(count=st.integers(1, 60), seed=st.integers(0, 5))
def test_every_image_is_in_a_full_group(count, seed):
    groups = cliques(count, seed)
    assert {image for group in groups for image in group} == set(range(count))
    assert all(len(group) == len(set(group)) == min(12, count) for group in groups)


def test_cliques_and_independent_loops_rank_images_alike():
    count = 24
    noise = np.random.default_rng(3).permutation(np.linspace(0.05, 1.5, count))
    places, everywhere = noisy(count, noise), np.ones((count, CELLS), bool)
    groups = [clique_loops(group, matches(places), GRID) for group in cliques(count, 0)]
    by_clique = clique_scores(groups, everywhere)
    alone = independent_scores(count, matches(places), GRID, everywhere, seed=0, loops=40)
    assert spearmanr(by_clique, noise).statistic > 0.9
    assert spearmanr(alone, noise).statistic > 0.9
    assert spearmanr(by_clique, alone).statistic > 0.9


def test_an_image_is_not_blamed_for_the_company_it_is_in():
    noise = np.repeat([0.1, 1.0], 12)
    noise[[0, 12]] = 0.4  # one image like another, one among better and one among worse
    places, everywhere = noisy(24, noise), np.ones((24, CELLS), bool)
    groups = [clique_loops(range(start, start + 12), matches(places), GRID) for start in (0, 12)]
    alone = [group.image_scores(everywhere[:12])[0] for group in groups]
    together = clique_scores(groups, everywhere)[[0, 12]]
    assert abs(together[1] - together[0]) < abs(alone[1] - alone[0]) / 2


def test_only_foreground_counts_for_a_score():
    places = permuted(4)
    places[0, 1:, 7] = 0.0  # one point of image 0 goes astray
    found = clique_loops(range(4), matches(places), GRID)
    foreground = np.ones((4, CELLS), bool)
    assert found.image_scores(foreground)[0] > 0
    foreground[0, 7] = False
    assert found.image_scores(foreground)[0] == 0


def test_selection_keeps_30_percent_7_pairs_and_32_points():
    assert len(keep_images(np.arange(40, dtype=np.float32), 0.3)) == 12
    grid = (8, 8)
    draw = np.random.default_rng(0)
    places = np.broadcast_to(own_places(grid), (12, 12, 64, 2)) + draw.normal(0, 0.3, (12, 12, 64, 2))
    places = places.astype(np.float32)
    group = clique_loops(range(12), lambda s, t: (places[list(s), list(t)], np.ones((len(s), 64))), grid)
    foreground = np.zeros((12, 64), bool)
    foreground[:, 8:56] = True
    pairs = choose_pairs([group], foreground, grid, Rules())
    assert [pair.source for pair in pairs] == [image for image in range(12) for _ in range(7)]
    assert shortfalls(40, 12, pairs, Rules()) == []
    for pair in pairs:
        assert len(pair.offset) == 32
        assert pair.source != pair.target
        cells = (pair.source_places[:, 1] * 8 + pair.source_places[:, 0]).astype(int)
        assert foreground[pair.source, cells].all()
        aim = np.rint(pair.target_places).clip(0, 7)
        assert foreground[pair.target, (aim[:, 1] * 8 + aim[:, 0]).astype(int)].all()
        others = group.offset[pair.source, pair.target]
        assert pair.offset.mean() < others[foreground[pair.source]].mean()
        assert pair.score == pytest.approx(others[foreground[pair.source]].mean())


def test_selection_says_what_it_lacks():
    grid = (4, 4)
    places = np.broadcast_to(own_places(grid), (4, 4, 16, 2)).astype(np.float32)
    group = clique_loops(range(4), lambda s, t: (places[list(s), list(t)], np.ones((len(s), 16))), grid)
    foreground = np.ones((4, 16), bool)
    foreground[3] = False
    pairs = choose_pairs([group], foreground, grid, Rules())
    said = shortfalls(15, 4, pairs, Rules())
    assert said == [
        "4 of 15 images are kept: at most 3 pairs an image, not 7",
        "6 pairs have no point between foreground and foreground",
        "6 of 6 pairs have fewer than 32 points between foregrounds",
    ]
