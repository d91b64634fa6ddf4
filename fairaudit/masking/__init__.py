"""Which part of the face a model needs: accuracy with a region hidden, per subgroup, by fills that must agree."""
