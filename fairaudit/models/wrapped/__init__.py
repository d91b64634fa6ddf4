"""Models that were not trained here: read, run and described so that prediction and audits take them like our own."""
