"""Billers and models that never were: call by call, in whole minutes, with incidents whose truth is known."""
