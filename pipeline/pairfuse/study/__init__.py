"""Study room: folds, scores, tuning and ablation; every score is out-of-fold."""
