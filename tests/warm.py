"""A process that has everything imported, and forks for each command: what documents start is then up in milliseconds.

    python warm.py serve SOCKET MODULE…     # imports these, and takes commands until it is killed
    python warm.py residuum SOCKET WORD…    # runs `residuum WORD…` in a fork of it
    python warm.py code SOCKET TEXT         # runs `python -c TEXT` in a fork of it

The one who asks hands over its standard streams, folder and environment, and ends with the exit code of the fork.
"""

import array
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

LIBRARIES = (
    "torch._dynamo",
    "captum.attr",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_svg",
    "matplotlib.pyplot",
    "scipy.stats",
    "sklearn.metrics",
)
"""What takes long to import of others."""
OURS = ("residuum.api", "residuum.figures", "residuum.training")


@contextmanager
def serving(path: Path, modules: Iterable[str]) -> Iterator[Callable[[str], list[str]]]:
    """A process with these modules, which is asked at a socket as long as this goes on.

    What is given makes the words of a command out of what is asked: `residuum`, or `code`.
    """
    server = subprocess.Popen([sys.executable, __file__, "serve", path, *modules],
                              env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True)  # fmt: skip
    assert server.stdout is not None
    assert server.stdout.readline() == "ready\n"
    try:
        yield lambda what: [sys.executable, "-I", "-S", __file__, what, str(path)]
    finally:
        server.kill()
        server.wait()


def serve(path: str, modules: Iterable[str]) -> None:
    """Import once, then fork for each connection."""
    for name in modules:
        importlib.import_module(name)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("ready", flush=True)
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            code = _answer(connection)
            connection.sendall(str(code).encode())
            sys.exit()
        connection.close()


def _answer(connection: socket.socket) -> int:
    """Run what was asked for; gives its exit code."""
    streams = array.array("i")
    size, ancillary, _, _ = connection.recvmsg(4, socket.CMSG_SPACE(3 * streams.itemsize))
    for _, _, data in ancillary:
        streams.frombytes(data)
    length = int.from_bytes(size, "big")
    text = b""
    while len(text) < length:
        text += connection.recv(length - len(text))
    asked = json.loads(text)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    # New ones: those made at the start know another file, what it can do and whether it is a terminal.
    sys.stdin, sys.stdout = open(0), open(1, "w")  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace")  # noqa: SIM115
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["folder"])
    words = asked["words"]
    sys.path.insert(0, "")
    try:
        if asked["what"] == "code":
            sys.argv = ["-c"]
            exec(compile(words[0], "<string>", "exec"), {"__name__": "__main__"})
            code = 0
        else:
            from residuum.cli import main

            sys.argv = ["residuum", *words]
            code = main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def ask(what: str, path: str, words: list[str]) -> int:
    """Have a fork of the server run it, and wait for its end; gives its exit code, 1 if it died."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    asked = {"what": what, "words": words, "environment": dict(os.environ), "folder": str(Path.cwd())}
    text = json.dumps(asked).encode()
    streams = array.array("i", [0, 1, 2])
    connection.sendmsg([len(text).to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
    connection.sendall(text)
    code = b""
    while more := connection.recv(16):
        code += more
    return int(code or b"1")


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], sys.argv[3:])
    else:
        sys.exit(ask(sys.argv[1], sys.argv[2], sys.argv[3:]))
