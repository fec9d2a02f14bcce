"""What every benchmark asks of the machine: ports, patience, and a place for words that are no result."""

import socket
import sys
import time


def say(text):
    print(text, file=sys.stderr, flush=True)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def answers(port):
    with socket.socket() as s:
        s.settimeout(1)
        return s.connect_ex(("127.0.0.1", port)) == 0


def wait_for(what, done, seconds=180, pause=0.1):
    """What `done` returns once that is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = done()
        if found:
            return found
        time.sleep(pause)
    raise SystemExit(f"bench: {what}: not within {seconds} s")
