"""A report of many runs on a small scale: quick, small, and no predictions read but those it draws."""

from __future__ import annotations

from pathlib import Path

import many_runs


def test_a_report_of_thirty_runs_takes_seconds_and_little_memory(tmp_path: Path) -> None:
    many_runs.make(tmp_path, 30, 300)
    figures = many_runs.measure(tmp_path)
    assert figures["processor_seconds"] < 60
    assert figures["peak_mb"] < 1_000
    assert figures["html_mb"] < 5 * 30 / 200 + 0.5  # 5 MB at 200 runs
