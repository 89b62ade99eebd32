"""What a run does: training, evaluation, resuming, speed."""
