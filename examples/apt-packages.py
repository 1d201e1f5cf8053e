#!/usr/bin/env python3
"""The package records of a Debian machine as JSON lines.

    apt-get update
    examples/apt-packages.py > packages.jsonl
    logwood load db packages.jsonl --format jsonl --key id

Reads what `apt-cache dumpavail` prints (or the file named, `-` for stdin, in the same form: /var/lib/dpkg/status
will do) and prints one object per package, with every field of its record as a string. `id` comes first and is unique:
name, version and architecture. With `--key Package` the versions of one package update one record.
"""

import json
import subprocess
import sys


def stanzas(lines):
    """Blocks of `Field: value` lines; a line that begins with a blank goes on with the field before it."""
    fields, name = {}, None
    for line in lines:
        line = line.decode("utf-8", "replace").rstrip("\n")
        if not line:
            if fields:
                yield fields
            fields, name = {}, None
        elif line[0] in " \t":
            if name is not None:
                fields[name] += "\n" + line[1:]
        else:
            name, _, value = line.partition(":")
            fields[name] = value.strip()
    if fields:
        yield fields


def main(arguments):
    if len(arguments) > 1 or arguments[:1] in (["-h"], ["--help"]):
        sys.exit(__doc__)
    process = None
    if not arguments:
        process = subprocess.Popen(["apt-cache", "dumpavail"], stdout=subprocess.PIPE)
        source = process.stdout
    else:
        source = sys.stdin.buffer if arguments[0] == "-" else open(arguments[0], "rb")
    for fields in stanzas(source):
        if "Package" not in fields:
            continue
        identity = (fields[name] for name in ("Package", "Version", "Architecture") if name in fields)
        print(json.dumps({"id": " ".join(identity), **fields}, ensure_ascii=False))
    if process is not None and process.wait() != 0:
        sys.exit("apt-cache dumpavail failed; run apt-get update first")


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")
    try:
        main(sys.argv[1:])
    except BrokenPipeError:
        sys.stderr.close()
