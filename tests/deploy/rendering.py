"""The overlays as `kubectl` renders them, and the fields that are set in them."""

import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
OVERLAYS = ROOT / "k8s" / "overlays"
NAMES = sorted(path.name for path in OVERLAYS.iterdir())

Manifest = dict[str, Any]


def tool(name: str) -> str:
    """A program that `make test-deploy` has installed beside Python."""
    return str(Path(sys.executable).with_name(name))


@cache
def rendered(overlay: str) -> str:
    command = [tool("kubectl"), "kustomize", str(OVERLAYS / overlay)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def manifests(overlay: str) -> list[Manifest]:
    return [one for one in yaml.safe_load_all(rendered(overlay)) if one is not None]


def fields(value: Any, path: str = "") -> Iterator[str]:
    """The path of every leaf: `spec.template.spec.containers[].image`."""
    if isinstance(value, dict) and value:
        for key, one in value.items():
            yield from fields(one, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value:
        for one in value:
            yield from fields(one, f"{path}[]")
    else:
        yield path
