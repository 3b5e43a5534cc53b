"""Starts one machine of the process cloud and ends: a script of its own.

    python -I -S process_launcher.py <node directory> <lock descriptor> <word>…

It stands between the driver and the machine so that the machine is nobody's child: it
forks, the child leads a session of its own and becomes ``<word>…``, and this program ends.
It holds the machine's lock until then and bears the machine's mark from the beginning:
whoever gets the lock later either sees the file ``started``, or finds a process with the
mark, or knows that nothing was started.

Standard library only, and little of it: it is started once for each machine.
"""

import os
import signal
import sys

STARTED = "started"
TOMBSTONE = "terminated"


def main() -> int:
    directory, _lock, *words = sys.argv[1:]
    os.chdir(directory)
    if os.path.exists(TOMBSTONE):
        return 0
    # Made now and only renamed later: a full disk is noticed before anything runs.
    os.close(os.open(STARTED + ".new", os.O_WRONLY | os.O_CREAT, 0o600))
    reading, writing = os.pipe()  # closed by exec; else it tells why there was none
    pid = os.fork()
    if pid == 0:
        _become(words, writing)
    os.close(writing)
    problem = os.read(reading, 4096).decode(errors="replace")
    if problem:
        os.waitpid(pid, 0)
        print(problem, file=sys.stderr)
        return 1
    os.rename(STARTED + ".new", STARTED)
    return 0


def _become(words: list[str], writing: int) -> None:
    try:
        os.setsid()
        os.umask(0o077)
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        output = os.open("logs/console.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.closerange(3, writing)
        os.closerange(writing + 1, os.sysconf("SC_OPEN_MAX"))
        os.execv(words[0], words)
    except BaseException as problem:
        os.write(writing, f"{words[0]} can't be started: {problem}".encode())
    finally:
        os._exit(127)


if __name__ == "__main__":
    sys.exit(main())
