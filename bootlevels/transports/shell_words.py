"""The fixed shell scripts that do the boot tool's work on other machines. PURE.

They are POSIX ``sh`` with ``tar`` and ``head``. What people wrote only ever arrives as a
word of its own (``$1`` …), never inside a script.
"""

from __future__ import annotations

from dataclasses import dataclass

#: ``directory``: a new private directory with the tar stream of the input in it. Nobody's
#: owners are taken over, also not by root.
PUT = 'umask 077; rm -rf -- "$1" && mkdir -p -- "$1" && cd -- "$1" && exec tar -xof -'
#: ``directory``: the same, beside what lies there already.
PUT_BESIDE = 'umask 077; mkdir -p -- "$1" && cd -- "$1" && exec tar -xof -'
#: ``directory word…``: become the program. EPU_PLACE is where one arrives on the machine.
RUN = """\
EPU_PLACE="$PWD"; cd -- "$1" || exit 126
shift
EPU_BOOTOUT="$PWD/bootout.json"; export EPU_BOOTOUT EPU_PLACE
exec "$@"
"""
#: ``directory environment-file word…``: the same over a connection. First it says who it is
#: (pid, boot, the kernel's figures), then it waits until that is written down.
RUN_SAYING_WHO = """\
EPU_PLACE="$PWD"; cd -- "$1" || exit 126
stat=$(cat /proc/$$/stat) && boot=$(cat /proc/sys/kernel/random/boot_id) || exit 126
echo "@epu $$ $boot ${stat##*) }"
read -r go || exit 125
. "$2" && rm -f -- "$2" || exit 126
shift 2
EPU_BOOTOUT="$PWD/bootout.json"; export EPU_BOOTOUT EPU_PLACE
exec "$@" </dev/null 2>&1
"""
#: ``path``, for a program: whether it is there, relative to where one arrives.
IS_THERE = 'cd -- "$EPU_PLACE" && test -e "$1"'
#: ``file bytes``: the beginning of a file.
FETCH = '[ -e "$1" ] || exit 44; echo "@epu"; exec head -c "$2" -- "$1"'
#: ``file bytes``: the end of a file.
FETCH_END = '[ -e "$1" ] || exit 44; echo "@epu"; exec tail -c "$2" -- "$1"'
#: ``directory…``: the paths of the plain files in them, a line each.
LIST = """\
echo "@epu"
for d; do for f in "$d"/*; do if [ -f "$f" ] && [ ! -L "$f" ]; then echo "$f"; fi; done; done
"""
#: ``file``: the input as a file that only its owner can read, whole or not at all.
PUT_FILE = 'umask 077; mkdir -p -- "${1%/*}" && cat >"$1.new" && mv -- "$1.new" "$1"'
#: What precedes an answer: a login shell may have printed things of its own before.
ANSWER = "@epu"
#: Exit code of FETCH when there is no such file.
NOT_THERE = 44
#: ``directory``.
REMOVE = 'exec rm -rf -- "$1"'
#: ``pid``: who has it now, as RUN_SAYING_WHO says it.
WHO = """\
stat=$(cat "/proc/$1/stat" 2>/dev/null) && boot=$(cat /proc/sys/kernel/random/boot_id) || exit 0
echo "@epu $1 $boot ${stat##*) }"
"""
#: ``group tenths``: SIGTERM to a process group, SIGKILL to what is left of it then.
END_GROUP = """\
kill -s TERM -- "-$1" 2>/dev/null || exit 0
i=0
while [ "$i" -lt "$2" ] && kill -s 0 -- "-$1" 2>/dev/null; do sleep 0.1; i=$((i+1)); done
kill -s KILL -- "-$1" 2>/dev/null
exit 0
"""


@dataclass(frozen=True)
class Who:
    """A process of another machine; ``mark`` tells it from later ones with its pid."""

    pid: int
    group: int
    mark: str


#: Seconds for removing a stage, whatever else has happened.
REMOVE_LIMIT = 10.0


def answer(said: bytes) -> bytes:
    """What a script answered in all that was ``said``."""
    return said.partition(f"{ANSWER}\n".encode())[2]


def who(said: bytes) -> Who | None:
    """The answer of RUN_SAYING_WHO or WHO in ``said``; None when there is none."""
    for line in said.decode(errors="replace").splitlines():
        words = line.split()
        if len(words) > 22 and words[0] == ANSWER:
            return Who(pid=int(words[1]), group=int(words[5]), mark=f"{words[2]}/{words[22]}")
    return None


def script(text: str, *words: str) -> tuple[str, ...]:
    """The words that run one of the scripts above with ``words`` as its arguments."""
    return ("/bin/sh", "-c", text, "sh", *words)
