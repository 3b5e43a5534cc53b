"""Starts one machine of this host and ends: a script of its own.

    python -I -S machine_launcher.py <directory> <lock descriptor> runs|sets-up <word>…

It stands between the driver and the machine so that the machine is nobody's child: it
forks, the child leads a session of its own and becomes ``<word>…``, and this program ends.
It holds the machine's lock until then and bears the machine's mark from the beginning:
whoever gets the lock later either sees the file ``started``, or finds a process with the
mark, or knows that nothing was started.

``runs``: the words are the machine's first process. ``sets-up``: they make the machine and
become its first process then; until that is executed they hold the descriptor PROBLEMS, and
say on it why there will be no machine (after LASTING when there never can be one).

Standard library only, and little of it: it is started once for each machine.
"""

import os
import signal
import sys

STARTED = "started"
TOMBSTONE = "terminated"
#: Descriptor on which what is started says why it can't be.
PROBLEMS = 3
#: First character of a problem that no repetition will cure.
LASTING = "!"
#: Exit code for such a problem; others have 1.
REFUSED = 3


def main() -> int:
    directory, _lock, manner, *words = sys.argv[1:]
    os.chdir(directory)
    if os.path.exists(TOMBSTONE):
        return 0
    # Made now and only renamed later: a full disk is noticed before anything runs.
    os.close(os.open(STARTED + ".new", os.O_WRONLY | os.O_CREAT, 0o600))
    reading, writing = os.pipe()  # closed by exec; else it tells why there was none
    pid = os.fork()
    if pid == 0:
        _become(words, writing, inheritable=manner == "sets-up")
    os.close(writing)
    problem = os.read(reading, 4096).decode(errors="replace")
    if problem:
        os.waitpid(pid, 0)
        print(problem.removeprefix(LASTING), file=sys.stderr)
        return REFUSED if problem.startswith(LASTING) else 1
    os.rename(STARTED + ".new", STARTED)
    return 0


def _become(words: list[str], writing: int, inheritable: bool) -> None:
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
        if writing != PROBLEMS:
            os.dup2(writing, PROBLEMS)
        os.set_inheritable(PROBLEMS, inheritable)
        writing = PROBLEMS
        os.closerange(PROBLEMS + 1, os.sysconf("SC_OPEN_MAX"))
        os.execv(words[0], words)
    except BaseException as problem:
        os.write(writing, f"{words[0]} can't be started: {problem}".encode())
    finally:
        os._exit(127)


if __name__ == "__main__":
    sys.exit(main())
