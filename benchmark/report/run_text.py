"""A run in words, as every format of the report says it."""

from __future__ import annotations

from benchmark.scoring.result import Result


def training(result: Result) -> str:
    """What a run was trained on, in order."""
    steps = [f"pre-trained on {result.pretrain}"] if result.pretrain else []
    if result.checkpoint:
        steps.append(f"weights {result.checkpoint}")
    if result.finetune:
        steps.append(f"{'fine-tuned' if steps else 'trained'} on {result.finetune}")
    return ", ".join(steps) or "untrained"


def recipe(result: Result) -> str:
    """The preset, and what departs from it."""
    return ", ".join([result.preset, *result.changes])


def one_line(result: Result) -> str:
    """A run without its scores."""
    return f"{result.model}, {training(result)}, recipe {recipe(result)}, seed {result.seed}, run {result.run}"


def arrow(result: Result) -> str:
    """The direction of the predictions."""
    source, target = ("source", "target") if result.direction == "forward" else ("target", "source")
    return f"{source} \N{RIGHTWARDS ARROW} {target}"


def duration(seconds: float) -> str:
    """Seconds in the two largest units, a dash for none.

    >>> duration(0), duration(42), duration(3725), duration(200_000)
    ('-', '42 s', '1 h 2 min', '55 h 33 min')
    """
    if not seconds:
        return "-"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(number: int | None) -> str:
    """Bytes as MB or GB, "" for none.

    >>> size(731_000_000), size(11_500_000_000), size(None)
    ('731 MB', '11.5 GB', '')
    """
    if not number:
        return ""
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"
