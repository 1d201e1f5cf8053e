#!/usr/bin/env python3
"""Generated records, `key TAB value`: 24-byte keys in no order and 150-byte values, always the same for the same N.

    examples/generate.py 5000000 > records.tsv
    logwood load db records.tsv

Keys are unique. The records come in an order that jumps over the whole range of keys, so that every batch touches
many leaves: the least favourable order for a tree.
"""

import sys

MASK = (1 << 64) - 1


def mix(number):
    """A permutation of the 64-bit numbers (the finalizer of splitmix64)."""
    number = (number + 0x9E3779B97F4A7C15) & MASK
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & MASK
    return number ^ (number >> 31)


def main(arguments):
    if len(arguments) != 1 or not arguments[0].isdigit():
        sys.exit(__doc__)
    write = sys.stdout.write
    for number in range(int(arguments[0])):
        key = mix(number)
        value = f"{number:010} " + f"{mix(key):016x}" * 9
        write(f"record--{key:016x}\t{value[:150]}\n")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except BrokenPipeError:
        sys.stderr.close()
