"""Face classifiers: backbones, training, checkpoints and prediction. It needs torch."""
