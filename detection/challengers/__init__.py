"""River's own forecasters beside the default model: an allow-list, their codecs, a race, and its stated rule."""
