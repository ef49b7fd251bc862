"""The HTTP edge: translate, call, translate."""
