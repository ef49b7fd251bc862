"""The learning itself: compiled scalar functions over one flat record per series."""
