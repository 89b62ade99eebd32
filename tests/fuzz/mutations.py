"""Spoiling valid inputs: bytes, JSON and text, each drawn from a random generator that is given."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

Mutation = Callable[[Random, Sequence[bytes]], bytes]  # the generator, the valid inputs -> an input

NUMBERS = (
    b"0", b"-0", b"-1", b"1e308", b"-1e308", b"1e999", b"1e-320", b"NaN", b"Infinity", b"-Infinity", b"127", b"128",
    b"2147483647", b"2147483648", b"4294967296", b"9223372036854775808", b"-9223372036854775809", b"9" * 400,
    b"9" * 5000, b"1.7976931348623157e308", b"0x10", "²".encode(), "٣".encode(), b"1_0", b"true", b"null",
)  # fmt: skip
NAMES = (
    "", " ", ".", "..", "../../../etc/passwd", "/etc/passwd", "C:\\x", "a/../../b", "~", "https://example.org/a.png",
    "<script>alert(1)</script>", "\"'><img src=x onerror=alert(1)>", "{{7*7}}", "${HOME}", "=1+1", "@SUM(1)", "-1+1",
    "\x00", "a\x00b", "\x1b[31mred\x1b]0;title\x07", "\x9b31m", "\u202egnp.exe", "line\nline", "a\r\nb", "tab\there",
    "\u2028", "[bold]x[/]", "[/]", "[link=http://x]y", "%s%n{0}", "\\input{/etc/passwd}", "$x^2_3&%#~", "\ud800",
    "né\u0301", "日本語", "😀", "x" * 300, "y" * 70_000, "cat", "toy", "nan", "None", "__class__",
)  # fmt: skip
WHOLE = (0, 1, -1, 2, 7, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
DEEP = ("@deep@", "@deeper@")  # text that becomes nested lists
HUGE = "@huge@"  # text that becomes a number beyond all floats


def spoilt_bytes(rng: Random, seeds: Sequence[bytes]) -> bytes:
    """A seed with one to four changes that know nothing of its format."""
    content = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        _change(rng, content, seeds)
    return bytes(content)


def _change(rng: Random, content: bytearray, seeds: Sequence[bytes]) -> None:
    length = len(content)
    place = rng.randrange(length) if length else 0
    span = min(length - place, rng.choice((1, 2, 4, 8, 32, 256)))
    kind = rng.randrange(10)
    if kind <= 2 and length:
        content[place] ^= 1 << rng.randrange(8)
    elif kind == 3 and length:
        content[place] = rng.choice((0, 1, 127, 128, 255))
    elif kind == 4:
        del content[rng.randrange(length + 1) :]
    elif kind == 5:
        del content[place : place + span]
    elif kind == 6:
        content[place:place] = content[place : place + span] * rng.choice((1, 2, 50))
    elif kind == 7:
        other = rng.choice(seeds)
        start = rng.randrange(len(other) + 1)
        content[place : place + span] = other[start : start + rng.choice((1, 16, 256, 4096))]
    elif kind == 8:
        width = rng.choice((2, 4, 8))
        value = rng.choice(WHOLE) % 256**width
        content[place : place + width] = value.to_bytes(width, rng.choice(("little", "big")))
    else:
        content[place:place] = rng.choice((rng.randbytes(span), rng.choice(NUMBERS), b"\x00" * span))


def spoilt_json(rng: Random, seeds: Sequence[bytes]) -> bytes:
    """A JSON document with one to three values or keys exchanged; one in three is spoilt as bytes instead."""
    if rng.random() < 0.33:
        return spoilt_bytes(rng, seeds)
    value = json.loads(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 2, 3))):
        value = _changed_value(rng, value)
    return json_text(rng, value).encode("utf-8", "surrogatepass")


def json_text(rng: Random, value: Any) -> str:
    """JSON with the values that ``json.dumps`` cannot write, and now and then a key given twice."""
    text = json.dumps(value, ensure_ascii=rng.random() < 0.5)
    for mark, depth in zip(DEEP, (60, 100_000)):
        text = text.replace(f'"{mark}"', "[" * depth + "]" * depth)
    text = text.replace(f'"{HUGE}"', rng.choice(NUMBERS).decode())
    if isinstance(value, dict) and value and rng.random() < 0.1:
        again = rng.choice(list(value))
        text = f"{text[:-1]}, {json.dumps(again)}: {json.dumps(odd_value(rng))}}}"
    return text


def odd_value(rng: Random) -> Any:
    """A value of JSON that a reader may not expect."""
    return rng.choice(
        (
            *(None, True, False, [], {}, [[]], [None], {"": None}, HUGE, HUGE, *DEEP),
            rng.choice(WHOLE),
            -rng.choice(WHOLE),
            rng.choice(NAMES),
            rng.choice(NAMES),
            rng.uniform(-1e6, 1e6),
            [rng.choice(NAMES)],
            [[1, 2, 3]],
            [[rng.random(), rng.random()] for _ in range(rng.choice((1, 2, 9)))],
            float("nan"),
            float("inf"),
        )
    )


def _changed_value(rng: Random, value: Any) -> Any:
    """The value with something in it, or itself, exchanged."""
    inside: Any = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    if not inside or rng.random() < 0.15:
        return odd_value(rng)
    key = rng.choice(inside)
    if rng.random() < 0.15:
        without = value.copy()
        del without[key]
        return without
    if isinstance(value, dict) and rng.random() < 0.1:
        return {**value, rng.choice(NAMES): odd_value(rng)}
    if isinstance(value, list) and rng.random() < 0.1:
        return [*value, value[key]]
    changed = value.copy()
    changed[key] = _changed_value(rng, value[key])
    return changed


def spoilt_text(rng: Random, seeds: Sequence[bytes]) -> bytes:
    """A text of lines and columns with cells, lines or signs exchanged; one in three is spoilt as bytes instead."""
    if rng.random() < 0.33:
        return spoilt_bytes(rng, seeds)
    lines = rng.choice(seeds).decode().split("\n")
    for _ in range(rng.choice((1, 1, 2, 3))):
        number = rng.randrange(len(lines))
        kind = rng.randrange(6)
        separator = rng.choice(",,,;;:-/ ")
        cells = lines[number].split(separator)
        column = rng.randrange(len(cells))
        if kind == 0:
            del lines[number]
            lines = lines or [""]
        elif kind == 1:
            lines.insert(number, rng.choice(lines))
        elif kind == 2:
            lines[number] = separator.join(cells[:column])
        else:
            odd = (rng.choice(NAMES), rng.choice(NUMBERS).decode(), '"', "", cells[column] + rng.choice(NAMES))
            cells[column] = rng.choice(odd)
            lines[number] = separator.join(cells)
    return "\n".join(lines).encode("utf-8", "surrogatepass")
