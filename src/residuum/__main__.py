"""The command `residuum`, which is `python -m residuum` too: from its first moment on a signal ends it in one line.

What computes runs notes signals itself, and saves their states first (`conduct.launchers.local`).
"""

import sys

try:
    import os
    import signal
    from types import FrameType
except KeyboardInterrupt:  # before there is a handler
    print("residuum: stopped by SIGINT", file=sys.stderr)
    sys.exit(130)

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1)


NOTED = "RESIDUUM_ENDED"
"""The variable that names a file for the exit code, where nobody waits for it (`run.detached`)."""


def main() -> int:
    """Run the command that the program was called with; returns its exit code, 128 + n where signal n ended it."""
    path, code = "", 1
    is_ending = False

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal is_ending
        # An import that is broken off may make an error of its own of it, or nothing at all; and it has nothing to
        # leave in order. Elsewhere files and locks are given up on the way out, unless that takes a second signal.
        if is_ending or _imports(frame):
            os.write(2, f"residuum: stopped by {signal.Signals(number).name}\n".encode())
            os._exit(128 + number)
        is_ending = True
        raise KeyboardInterrupt(number)

    try:
        for number in SIGNALS:
            if signal.signal(number, end) == signal.SIG_IGN:  # as `nohup` leaves it
                signal.signal(number, signal.SIG_IGN)
        path = os.environ.pop(NOTED, "")  # which is for this process alone
        _open_streams()
        from residuum.cli import main as run

        code = run()
    except KeyboardInterrupt as error:  # before there was a command
        stopped = signal.Signals(error.args[0] if error.args else signal.SIGINT)
        print(f"residuum: stopped by {stopped.name}", file=sys.stderr)
        code = 128 + stopped
    finally:
        is_ending = True
        if path:
            _note(path, code)
    return code


def _note(path: str, code: int) -> None:
    """Write down an exit code; a disk that is full loses it."""
    try:
        with open(path, "w", encoding="ascii") as file:  # noqa: PTH123 - nothing more is imported for it
            file.write(f"{code}\n")
    except OSError:
        pass


def _open_streams() -> None:
    """Standard streams that are closed lead nowhere: the next file that is opened must not take the place of one."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode))  # noqa: SIM115, PTH123 - open until the end


def _imports(frame: FrameType | None) -> bool:
    """Whether a module is being imported where a frame stands."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


if __name__ == "__main__":
    sys.exit(main())
