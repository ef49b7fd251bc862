"""What a worker asks of its interpreter: measured, and for the whole process."""

import gc
import sys


def spare_the_collector() -> None:
    """Look for cycles less often: with 100,000 states in memory, each look at all of them stops the stream.

    Measured: a fifth of the time to close a subject. What is made per event and per subject has no cycles.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)
    gc.enable()


def take_turns() -> None:
    """Let threads change places ten times as often as usual.

    The consumer's thread needs the interpreter for each piece of what comes in, and waits for it as long as one turn of
    ours takes. Measured: a quarter more calls a second; more turns than these cost more than they give.
    """
    sys.setswitchinterval(0.0005)
