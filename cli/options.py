"""Options that several commands have, so that they are called and explained alike."""

from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Globs = Annotated[list[str] | None, typer.Option("--subject", help="Only those that fit a glob; may be repeated.")]
