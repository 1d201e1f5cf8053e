#!/usr/bin/env python3
"""Loads a file, kills the load half way, and compares what is there with the file, record by record.

    examples/kill-and-compare.py DIR FILE [--format tsv|jsonl] [--key FIELD] [--batch N] [--logwood PROGRAM]

1. `logwood load --acks` runs and is killed with SIGKILL once half of the batches are acknowledged.
2. The database is opened again, scanned, and must be exactly the state after some first N lines of the file, N a whole
   number of batches and at least what was acknowledged.
3. Everything is loaded; the scan must be exactly the file's last record of each key; `verify` must find no damage.

Prints one line of figures; exit 1 if anything differs. The expected state is kept in memory.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

ESCAPE = re.compile(rb"\\x([0-9a-fA-F]{2})")


def unescape(data):
    return ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), data)


def records(path, form, key):
    """Key and value of each line, as the program reads them."""
    with open(path, "rb") as lines:
        for line in lines:
            line = line.rstrip(b"\n").removesuffix(b"\r")
            if form == "jsonl":
                yield json.loads(line)[key].encode(), line
            else:
                name, value = line.split(b"\t", 1)
                yield unescape(name), unescape(value)


def scan(program, directory):
    """What the database holds, in the order in which it says it."""
    found, previous = {}, None
    with subprocess.Popen([program, "scan", directory], stdout=subprocess.PIPE) as process:
        for line in process.stdout:
            name, value = line.rstrip(b"\n").split(b"\t", 1)
            name = unescape(name)
            assert previous is None or previous < name, f"out of order: {name}"
            found[name] = unescape(value)
            previous = name
    assert process.returncode in (0, 1), f"scan ends with {process.returncode}"
    return found


def run(command):
    start = time.monotonic()
    ended = subprocess.run(command, stdout=subprocess.PIPE)
    assert ended.returncode == 0, f"{command[1]} ends with {ended.returncode}"
    return time.monotonic() - start


def load_half(command, lines, batch):
    """Starts a load, kills it half way; answers how many lines were acknowledged."""
    acknowledged = 0
    with subprocess.Popen([*command, "--acks"], stdout=subprocess.PIPE) as process:
        for _ in process.stdout:
            acknowledged += 1
            if acknowledged * batch >= lines // 2:
                process.send_signal(signal.SIGKILL)
                break
        acknowledged += sum(1 for line in process.stdout if line.endswith(b"\n"))
    return min(acknowledged * batch, lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory")
    parser.add_argument("file")
    parser.add_argument("--format", default="tsv", choices=["tsv", "jsonl"])
    parser.add_argument("--key")
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--logwood", default="target/release/logwood")
    given = parser.parse_args()
    program, directory = given.logwood, given.directory
    shutil.rmtree(directory, ignore_errors=True)
    source = list(records(given.file, given.format, given.key))
    command = [program, "load", directory, given.file, "--format", given.format, "--batch", str(given.batch)]
    command += ["--key", given.key] if given.key else []

    acknowledged = load_half(command, len(source), given.batch)
    start = time.monotonic()
    found = scan(program, directory)
    recovered_s = time.monotonic() - start
    state, after = dict(source[:acknowledged]), acknowledged
    while state != found:
        assert after < len(source), "the state is not that after any number of batches"
        state.update(source[after : after + given.batch])
        after += given.batch
    verify_killed_s = run([program, "verify", directory])

    load_s = run(command)
    state = dict(source)
    assert scan(program, directory) == state, "the state is not the file's last record of each key"
    verify_s = run([program, "verify", directory])
    disk = sum(os.path.getsize(os.path.join(at, name)) for at, _, names in os.walk(directory) for name in names)
    print(
        f"{given.file}: {len(source)} lines, {len(state)} keys; killed with {acknowledged} lines acknowledged, state was"
        f" that after {after}; opened and scanned in {recovered_s:.1f} s, verified in {verify_killed_s:.1f} s; then loaded in"
        f" {load_s:.1f} s, verified in {verify_s:.1f} s, {disk / 1e6:.0f} MB on disk: equal"
    )


if __name__ == "__main__":
    try:
        main()
    except AssertionError as wrong:
        sys.exit(f"FAILED: {wrong}")
