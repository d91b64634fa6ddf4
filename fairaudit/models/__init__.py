"""Face classifiers: backbones, training, checkpoints and prediction. The only part besides attribution that needs torch."""
