"""Each producer's packages, in an environment of its own in a cache folder outside of the repository."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(
    os.environ.get("TRACESTONE_PRODUCERS")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tracestone-producers"
)
_PIP = ("-m", "pip", "--disable-pip-version-check")


@dataclass(frozen=True)
class Installed:
    """What runs a program, and the versions of all its packages."""

    program: str
    folder: Path
    command: tuple[str, ...]
    versions: dict[str, str]


def install(program: Path) -> Installed:
    """Installs what `requirements.txt` or `package-lock.json` pins, unless that was done before."""
    folder = CACHE / program.name
    pins = program / "requirements.txt"
    if pins.exists():
        python = folder / "venv/bin/python"
        if _changed(folder, pins):
            _afresh(folder)
            _run(sys.executable, "-m", "venv", str(folder / "venv"))
            _run(str(python), *_PIP, "install", "--quiet", "--requirement", str(pins))
            _done(folder, pins)
        found = json.loads(_run(str(python), *_PIP, "list", "--format=json"))
        versions = {one["name"].lower(): one["version"] for one in found}
        return Installed(program.name, folder, (str(python), str(program / "run.py")), versions)
    lock = program / "package-lock.json"
    if _changed(folder, lock):
        _afresh(folder)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(program / name, folder / name)
        _run("npm", "ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", cwd=folder)
        _done(folder, lock)
    # Node looks for modules beside the program.
    shutil.copy(program / "run.mjs", folder / "run.mjs")
    packages = json.loads(lock.read_text(encoding="utf-8"))["packages"]
    versions = {name.removeprefix("node_modules/"): one["version"] for name, one in packages.items() if name}
    return Installed(program.name, folder, ("node", str(folder / "run.mjs")), versions)


def _changed(folder: Path, pins: Path) -> bool:
    done = folder / "installed"
    return not done.exists() or done.read_text() != _sum(pins)


def _afresh(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _done(folder: Path, pins: Path) -> None:
    (folder / "installed").write_text(_sum(pins))


def _sum(pins: Path) -> str:
    return hashlib.sha256(pins.read_bytes()).hexdigest()


def _run(*command: str, cwd: Path | None = None) -> str:
    answer = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise SystemExit(f"{' '.join(command)}:\n{answer.stdout}{answer.stderr}")
    return answer.stdout
