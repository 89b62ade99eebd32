"""A small slice of the campaign, and every input that once broke a parser."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.campaign import outcome, spoilt
from tests.fuzz.parser import Parser
from tests.fuzz.parsers import parsers

CASES = Path(__file__).parent / "cases"
SLICE = 16  # inputs of a parser of an ordinary share; the slow ones have a small share


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SC_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("parser", parsers().values(), ids=lambda parser: parser.name)
def test_spoilt_inputs_are_accepted_or_refused_in_one_line(tmp_path, parser: Parser):
    seeds = parser.seeds()
    for seed in seeds[:2]:
        assert outcome(parser, seed, tmp_path) == "accepted"
    for number in range(len(seeds), len(seeds) + max(2, round(SLICE * min(parser.share, 1) ** 2))):
        assert outcome(parser, spoilt(parser, seeds, number), tmp_path) in ("accepted", "refused")


@pytest.mark.parametrize("case", sorted(CASES.glob("*/*")), ids=lambda case: f"{case.parent.name}-{case.name}")
def test_what_once_broke_a_parser_is_accepted_or_refused(tmp_path, case: Path):
    assert outcome(parsers()[case.parent.name], case.read_bytes(), tmp_path) in ("accepted", "refused")


def test_an_input_is_the_same_in_every_campaign():
    for name in ("pair-json", "tar-gz", "image-png", "weights-pickle"):
        parser = parsers()[name]
        first, second = parser.seeds(), parser.seeds()
        assert [spoilt(parser, first, n) for n in range(20)] == [spoilt(parser, second, n) for n in range(20)]


def test_an_exception_of_another_kind_is_no_refusal(tmp_path):
    """What is no InputError is not taken for a refusal."""
    from sc_imagenet.core.errors import InputError

    def raising(content: bytes, folder: Path) -> None:
        raise KeyError("x") if content == b"key" else InputError(content.decode())

    parser = Parser("made", lambda: [b"a"], raising)
    assert outcome(parser, b"a\nb", tmp_path) == "refused"  # InputError itself makes one line of two
    with pytest.raises(KeyError):
        outcome(parser, b"key", tmp_path)
