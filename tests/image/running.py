"""A process of the image, run as a pod runs it: user 10001, no rights, a root that is read-only, /tmp in memory.

Namespaces and the capability set are the kernel's own, made by util-linux; a container engine asks for the same ones.
The network is this machine's, so that the process reaches the servers on the loopback.
"""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.process import GuardedProcess

_MOUNTS = """
set -eu
root=$1
shift
mount --bind "$root" "$root"
mount --bind --make-private -o remount,ro,bind "$root"
mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs "$root/tmp"
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -t tmpfs -o nosuid,mode=755 tmpfs "$root/dev"
for device in null zero full random urandom; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
exec chroot "$root" /usr/bin/setpriv --reuid 10001 --regid 10001 --clear-groups --no-new-privs \\
    --bounding-set=-all --inh-caps=-all /usr/bin/env --ignore-environment --chdir=/tmp "$@"
"""


@dataclass(frozen=True, slots=True)
class Contained:
    """What the image says of a process: its variables, its entry point, its command, and the question of its health."""

    root: Path
    variables: tuple[str, ...]
    entry_point: tuple[str, ...]
    command: tuple[str, ...]
    health: tuple[str, ...]

    @classmethod
    def of(cls, root: Path, said: Mapping[str, Any]) -> "Contained":
        """From the configuration in Docker's own format."""
        health = said["Healthcheck"]["Test"]
        if health[0] != "CMD":
            raise ValueError(f"the health check is of the kind {health[0]}")
        return cls(root, tuple(said["Env"]), tuple(said["Entrypoint"]), tuple(said["Cmd"]), tuple(health[1:]))

    def run(self, *command: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """One command, to its end."""
        return subprocess.run(
            self.contained(command, environment or {}), capture_output=True, text=True, check=False, timeout=100
        )

    def process(self, name: str, log: Path, environment: Mapping[str, str], *command: str) -> GuardedProcess:
        """The entry point with this command (without one, with the image's own); started and stopped by the caller."""
        whole = (*self.entry_point, *(command or self.command))
        return GuardedProcess(name=name, command=self.contained(whole, environment), log=log, owner=log.parent)

    def contained(self, command: Sequence[str], environment: Mapping[str, str]) -> tuple[str, ...]:
        variables = (*self.variables, *(f"{name}={text}" for name, text in environment.items()))
        namespaces = ("unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child=SIGTERM")
        return (*namespaces, "bash", "-c", _MOUNTS, "bash", str(self.root), *variables, *command)
