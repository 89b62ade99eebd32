"""The report: the paper's tables beside what was measured here, and every run found."""
