"""Count metrics, their intervals and the gaps between subgroups: numpy on counts, no model and no torch."""
