"""The first process of a machine of the container cloud. A script of its own.

    python3 -I -S init.py [<word>…]

It is copied onto the machine's disk and run there by the machine's own Python, whatever its
version. It runs cloud-init's stages in their order, or the words in their place; adopts and
buries what others leave behind; and keeps the machine alive until SIGTERM, upon which it
ends everything in good order. What it does it says on the console, and what others write to
/dev/console it says there too.

The stages are the real ones of the ``cloud-init`` command. They are forked from one process
that has loaded cloud-init, rather than started one by one: loading it is half of their time.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import tty
from _thread import start_new_thread
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

Stage = Sequence[str]
StageMain = Callable[[list[str]], object]

STAGES = (
    ("init", "--local"),
    ("init",),
    ("modules", "--mode=config"),
    ("modules", "--mode=final"),
)
#: Where the machine's cloud-init is loaded from: the command and the system's packages.
CLOUD_INIT = "/usr/bin/cloud-init"
#: Seconds that the machine's programs have to end by themselves.
PATIENCE = 10.0

_STOP = {signal.SIGTERM, signal.SIGINT, signal.SIGPWR}
_WAITED_FOR = _STOP | {signal.SIGCHLD}
_began = time.monotonic()


def main(words: list[str]) -> int:
    signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED_FOR)
    say("the machine is up")
    console, terminal = make_console()
    booting = os.fork()
    if booting == 0:
        os.close(console)
        os.close(terminal)
        run(words)
    start_new_thread(copy_console, (console,))
    while True:
        number = signal.sigtimedwait(_WAITED_FOR, 3600)
        for pid, status in buried():
            if pid == booting:
                code = os.waitstatus_to_exitcode(status)
                say("the boot ended well" if code == 0 else f"the boot ended with {code}")
        if number is not None and number.si_signo in _STOP:
            return shut_down(signal.Signals(number.si_signo).name)


def make_console() -> tuple[int, int]:
    """A /dev/console: what is written to it can be read from the first descriptor.

    The second is its terminal, which is kept open so that it never hangs up.
    """
    console, terminal = os.openpty()
    tty.setraw(terminal)
    os.symlink(os.ttyname(terminal), "/dev/console")
    return console, terminal


def copy_console(console: int) -> None:
    """In a thread: copy what comes from ``console`` to where this process prints, for ever."""
    while text := os.read(console, 4096):
        with suppress(OSError):  # a full disk of the host must not silence the machine for good
            os.write(1, text)


def run(words: list[str]) -> None:
    """In a child: boot, and end with what came of it. Never returns."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _WAITED_FOR)
    code = 1
    try:
        if words:
            os.execvp(words[0], words)
        code = boot()
    except BaseException as problem:
        say(f"the boot failed: {problem!r}")
    finally:
        flush()
        os._exit(code)


def boot() -> int:
    """Run all stages, also after one failed, as a machine's service manager does."""
    started = time.monotonic()
    stage_main = load_cloud_init()
    say(f"cloud-init loaded in {time.monotonic() - started:.2f} s")
    worst = 0
    for stage in STAGES:
        started = time.monotonic()
        pid = os.fork()
        if pid == 0:
            run_stage(stage_main, stage)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        took = time.monotonic() - started
        say(f"cloud-init {' '.join(stage)}: {took:.2f} s, ended with {code}")
        worst = worst or code
    return worst


def load_cloud_init() -> StageMain:
    """The ``main`` of the cloud-init command, with what it will need loaded."""
    import site

    site.main()  # -S kept the system's packages away
    sys.argv = [CLOUD_INIT]
    from importlib import import_module

    main: StageMain = import_module("cloudinit.cmd.main").main
    for name in ("cloudinit.sources.DataSourceNoCloud", "cloudinit.distros.debian"):
        # Another distribution or version may lack it: what it has is loaded when needed.
        with suppress(ImportError):
            import_module(name)
    return main


def run_stage(stage_main: StageMain, stage: Stage) -> None:
    code: object = 1
    try:
        sys.argv = [CLOUD_INIT, *stage]
        code = stage_main(list(sys.argv))
    except SystemExit as end:
        code = end.code
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        flush()
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def buried() -> Iterator[tuple[int, int]]:
    """(pid, status) of every child that ended."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, status


def shut_down(why: str) -> int:
    say(f"{why}: shutting down")
    deadline = time.monotonic() + PATIENCE
    for number in (signal.SIGTERM, signal.SIGCONT):
        signal_all(number)
    while are_others() and time.monotonic() < deadline:
        signal.sigtimedwait({signal.SIGCHLD}, 0.1)
        list(buried())
    signal_all(signal.SIGKILL)
    say("the machine ends")
    return 0


def are_others() -> bool:
    """Whether any process is left on the machine; not all are this one's children."""
    return any(entry.isdigit() and entry != "1" for entry in os.listdir("/proc"))


def signal_all(number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(-1, number)


def flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()


def say(what: str) -> None:
    print(f"[{time.monotonic() - _began:9.3f}] epu init: {what}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
