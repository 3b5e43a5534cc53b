"""Becomes a program on a machine of the container cloud: the command of ``exec_command``.

    … <pid of the machine's first process> <its start time> <network> <word>…

Run as root without site-packages, with the machine's environment and mark and nothing else.
Its standard streams, exit code and process group are the program's.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings as warnings  # os.execvp imports it, on the machine, where it may not be

from coordinator.clouds import container_kernel as kernel

#: Where programs begin on a machine.
HOME = "/root"
#: Exit codes as a shell has them.
_CANNOT_RUN = 126
_NOT_FOUND = 127


def main() -> None:
    """Run the program; never returns."""
    _, pid, started, network, *words = sys.argv[1:]
    try:
        first = os.pidfd_open(int(pid))
        # A number may be another process's by now; the descriptor is not.
        if _start_time(pid) != started:
            raise ProcessLookupError
        own = ("net",) if network == "private" else ()
        kernel.enter(first, "mnt", "uts", "ipc", "pid", *own)
    except (ProcessLookupError, FileNotFoundError):
        sys.exit("the machine is gone")
    except OSError as problem:
        sys.exit(str(problem))
    child = os.fork()
    if child == 0:
        _become(words, network)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:  # end as the program ended
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def _become(words: list[str], network: str) -> None:
    try:
        kernel.end_with_parent(signal.SIGKILL)
        kernel.drop_rights(network_is_own=network == "private")
        os.makedirs(HOME, mode=0o700, exist_ok=True)
        os.chdir(HOME)
        os.umask(0o022)
        os.execvp(words[0], words)
    except FileNotFoundError:
        print(f"{words[0]}: not found on the machine", file=sys.stderr)
        os._exit(_NOT_FOUND)
    except BaseException as problem:
        print(f"{words[0]}: {problem}", file=sys.stderr)
    finally:
        os._exit(_CANNOT_RUN)


def _start_time(pid: str) -> str:
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return file.read().rpartition(")")[2].split()[19]
