"""The words every part speaks and the protocols between the parts."""
