"""`python -m tests.page FOLDER`: the Tidemark that the browser tests look at, until Ctrl-C; for work on the page."""

import signal
import sys
from pathlib import Path

from tests.page.living import living

if __name__ == "__main__":
    with living(Path(sys.argv[1])) as here:
        sys.stdout.write(f"{here.url}\n{here.environment}\n")
        sys.stdout.flush()
        signal.pause()
