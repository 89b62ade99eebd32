"""What everything stands on: errors, files, processes, progress, the Hub. No torch, no datasets."""
