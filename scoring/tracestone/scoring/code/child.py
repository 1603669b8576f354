"""The process in which an uploaded scorer runs. A program of its own, on the standard library alone.

It is started with an empty environment, without site-packages, and with three open files: requests come on 0, answers
go to 1, 2 leads nowhere. It imports what scorers may use, reads the source, locks itself down (lockdown.py) and only
then runs any of the source. A message is four bytes of length, big endian, and JSON.

    -> {source, function}                  <- {locked: true}, then {ready: [arguments]} or {refused: reason};
                                              {unable: reason} when it cannot be locked down
    -> {id, given}                         <- {id, value, rationale, metadata} or {id, code, message}
"""

import importlib
import importlib.util
import json
import linecache
import os
import sys
import traceback
import types
from collections.abc import Callable
from typing import Any

_SOURCE_NAME = "<scorer>"
# What a scorer may import; once the process is locked down no file can be read.
_MODULES = """
_strptime abc array base64 bisect calendar cmath codecs collections collections.abc colorsys contextlib copy csv
dataclasses datetime decimal difflib encodings.ascii encodings.idna encodings.latin_1 encodings.utf_16 encodings.utf_8
enum fnmatch fractions functools graphlib hashlib heapq hmac html html.entities html.parser io ipaddress itertools json
keyword locale logging math numbers operator pprint random re reprlib secrets statistics string stringprep struct
textwrap time tokenize types typing unicodedata urllib.parse uuid warnings weakref xml.etree.ElementTree zlib zoneinfo
""".split()


class _Nowhere:
    """Takes what a scorer prints."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        """Forgets the text."""
        return len(text)

    def flush(self) -> None:
        """Does nothing."""


def main() -> None:
    """Runs until its input ends."""
    parent, memory, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    functions = _load(folder, "functions")
    lockdown = _load(folder, "lockdown")
    for name in _MODULES:
        importlib.import_module(name)
    _stand_for_mlflow(functions)
    first = _receive()
    try:
        lockdown.die_with_parent(parent)
        os.closerange(3, 4096)
        lockdown.limit_memory(memory)
        lockdown.lock_down()
    except Exception as error:  # noqa: BLE001 - whatever it is, nothing of the source is run
        _send({"unable": f"{type(error).__name__}: {error}"})
        return
    _send({"locked": True})
    sys.stdin = None
    sys.stdout = sys.stderr = _Nowhere()
    try:
        function = _function(functions, first["source"], first["function"])
        ready = functions.wanted(function)
    except BaseException as error:  # noqa: BLE001 - the source may raise anything
        _send({"refused": _told(error)})
        return
    _send({"ready": ready})
    while True:
        _serve(functions, function, _receive())


def _serve(functions: Any, function: Callable[..., Any], request: dict[str, Any]) -> None:
    try:
        verdict = functions.answer(function, request["given"])
    except MemoryError:
        verdict = {"code": "OUT_OF_MEMORY", "message": "the function needs more memory than it may have"}
    except functions.BadAnswer as error:
        verdict = {"code": "BAD_VALUE", "message": str(error)}
    except BaseException as error:  # noqa: BLE001 - a scorer may raise anything, SystemExit too
        verdict = {"code": "SCORER_FAILED", "message": _told(error)}
    if "failed" in verdict:
        verdict = {"code": "SCORER_FAILED", "message": verdict["failed"]}
    _send({"id": request["id"], **verdict})


def _function(functions: Any, source: str, name: str) -> Callable[..., Any]:
    linecache.cache[_SOURCE_NAME] = (len(source), None, source.splitlines(keepends=True), _SOURCE_NAME)
    module = types.ModuleType("scorer")
    module.Feedback, module.Trace = functions.Feedback, functions.Trace  # type: ignore[attr-defined]
    sys.modules["scorer"] = module
    exec(compile(source, _SOURCE_NAME, "exec"), module.__dict__)
    function: Callable[..., Any] = getattr(module, name)
    return function


def _stand_for_mlflow(functions: Any) -> None:
    """Modules by the names from which scorers written for MLflow import."""
    names = ("mlflow", "mlflow.entities", "mlflow.genai", "mlflow.genai.scorers")
    modules = {name: types.ModuleType(name) for name in names}
    sys.modules.update(modules)
    for name in ("Feedback", "Trace", "Span"):
        setattr(modules["mlflow.entities"], name, getattr(functions, name))
    for holder in ("mlflow.genai", "mlflow.genai.scorers"):
        modules[holder].scorer = functions.scorer  # type: ignore[attr-defined]
    for name in names[1:]:
        above, _, own = name.rpartition(".")
        setattr(modules[above], own, modules[name])


def _told(error: BaseException) -> str:
    """The error in one line, with the line of the source where it came from."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == _SOURCE_NAME]
    where = f"line {lines[-1]}: " if lines else ""
    return f"{where}{type(error).__name__}: {error}"[:2000]


def _load(folder: str, name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, os.path.join(folder, f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _receive() -> dict[str, Any]:
    size = int.from_bytes(_exactly(4), "big")
    document: dict[str, Any] = json.loads(_exactly(size))
    return document


def _exactly(size: int) -> bytes:
    parts = []
    while size:
        part = os.read(0, min(size, 1 << 20))
        if not part:
            os._exit(0)
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _send(document: dict[str, Any]) -> None:
    data = json.dumps(document).encode("utf-8", "replace")
    data = len(data).to_bytes(4, "big") + data
    while data:
        data = data[os.write(1, data) :]


if __name__ == "__main__":
    main()
