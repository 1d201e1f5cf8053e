#!/usr/bin/env python3
"""Every change of every file in a git repository's history, oldest first, as `path TAB change`.

    examples/git-log.py ~/src/linux > changes.tsv
    logwood load db changes.tsv

A change is `LETTER COMMIT SECONDS`: A added, M modified, D deleted, T changed its type; the commit; its time. Paths
come back again and again, some of them very often: loading is mostly updates, and the last change of each path
stays. Bytes outside printable ASCII, and the backslash, are written as \\xNN, as `logwood scan` prints them, so that

    awk -F'\\t' '{ last[$1] = $0 } END { for (path in last) print last[path] }' changes.tsv | LC_ALL=C sort

prints what `logwood scan db | LC_ALL=C sort` prints. To delete what the history has deleted:

    logwood scan db | awk -F'\\t' '$2 ~ /^D / { print $1 }' | while read -r path; do logwood delete db -- "$path"; done
"""

import subprocess
import sys


def escape(data):
    return "".join(chr(byte) if 0x20 <= byte <= 0x7E and byte != 0x5C else f"\\x{byte:02x}" for byte in data)


def tokens(stream):
    """What stands between NUL bytes, without holding more than one piece of the stream."""
    rest = b""
    while piece := stream.read(1 << 16):
        *whole, rest = (rest + piece).split(b"\0")
        yield from whole
    if rest:
        yield rest


def main(arguments):
    if len(arguments) != 1 or arguments[0] in ("-h", "--help"):
        sys.exit(__doc__)
    command = ["git", "-C", arguments[0], "log", "--reverse", "--no-renames", "--name-status", "-z"]
    # A commit is told from a status letter by the colon, which no letter has.
    process = subprocess.Popen(command + ["--format=:%H %ct"], stdout=subprocess.PIPE)
    commit = letter = None
    for token in tokens(process.stdout):
        token = token.removeprefix(b"\n") if letter is None else token
        if letter is not None:
            print(f"{escape(token)}\t{letter} {commit}")
            letter = None
        elif token.startswith(b":"):
            commit = token[1:].decode()
        elif token:
            letter = token.decode()
    if process.wait() != 0:
        sys.exit(process.returncode)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except BrokenPipeError:
        sys.stderr.close()
