"""Where in the face a head looks: attribution methods, mean maps per subgroup, shares of centre and border."""
