#!/usr/bin/env python3
"""Whether qgjob's queue stays as fast when much waits and much is over, and what the server needs to start and to stay.

Fills stores in a temporary folder by the store's own verbs: 1,000 jobs queued (the base), 100,000 queued of 5,000
groups, and 1,000 queued beside a million that are finished. Then measures submit, claim and finish in each, in
alternation: first by the store's verbs alone, then over HTTP, as a server on that store; a ratio is taken within its
round, and the median of the rounds is judged. Starts `qgjob server` on an empty store and on full ones: the time until
/readyz says yes, and the memory. Exit code 1 when a target is missed.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "benches"))
from machine import free_port, say  # noqa: E402

QGJOB = ROOT / "target/release/qgjob"
STORE = ROOT / "target/release/examples/scale-store"
LOAD = ROOT / "target/release/examples/queue-load"

BASE, QUEUED, FINISHED = "1,000 queued", "100,000 queued, 5,000 groups", "1,000 queued, finished beside"
# Most times the cost at the base.
MOST_RATIO = 1.3
# Name, how many jobs are queued, most milliseconds until ready, most megabytes.
STARTS = [("empty", 0, 150, 25), ("10,000 queued", 10_000, None, 60), ("100,000 queued", 100_000, 2000, None)]
VERBS = ("submit_us", "claim_us", "finish_us")


def fill(db, queued, groups, finished=0):
    say(f"filling a store: {queued:,} queued of {groups:,} groups, {finished:,} finished")
    options = [f"--queued={queued}", f"--groups={groups}", f"--finished={finished}"]
    subprocess.run([STORE, f"--db={db}", "fill", *options], check=True, timeout=1800)


def by_verbs(db, _groups):
    done = subprocess.run([STORE, f"--db={db}", "measure"], check=True, timeout=300, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def over_http(db, groups):
    # The first start writes the credential of the store's admin there, and no later one does.
    data = db.with_suffix(".data")
    data.mkdir(exist_ok=True)
    with server(db, data) as (process, port, _):
        credential = json.loads((data / "admin-credential.json").read_text())
        options = [f"--server=127.0.0.1:{port}", f"--token={credential['token']}", f"--server-pid={process.pid}",
                   "--scenario=level", f"--labels={groups}", "--clients=50", "--jobs=4000"]
        done = subprocess.run([LOAD, *options], check=True, timeout=600, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def compare(stores, rounds, what, measure):
    seen = {name: [] for name in stores}
    for round_number in range(1, rounds + 1):
        say(f"{what}: round {round_number} of {rounds}, load average {os.getloadavg()[0]:.1f}")
        for name, store in stores.items():
            seen[name].append(measure(*store))
    missed = 0
    print(f"\nCPU µs per job, {what}\n")
    print("| store | submit | claim | finish | together | against the base | |\n|---|---:|---:|---:|---:|---:|---|")
    total = lambda result: sum(result[verb] for verb in VERBS)
    for name, results in seen.items():
        each = " | ".join(f"{statistics.median(result[verb] for result in results):.1f}" for verb in VERBS)
        times = statistics.median(total(one) / total(base) for one, base in zip(results, seen[BASE]))
        verdict = "" if name == BASE else "MISSED" if times > MOST_RATIO else "OK"
        missed += verdict == "MISSED"
        print(f"| {name} | {each} | {statistics.median(map(total, results)):.1f} | {times:.2f}× | {verdict} |")
    return missed


@contextmanager
def server(db, data):
    """A server on the store: the process, its port, and the seconds until it was ready."""
    port = free_port()
    command = [QGJOB, "server", "run", f"--listen=127.0.0.1:{port}", f"--data-dir={data}", f"--store=sqlite:{db}"]
    env = {"PATH": os.environ["PATH"], "HOME": str(data)}
    began = time.monotonic()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5)
                break
            except (urllib.error.URLError, ConnectionError):
                if time.monotonic() - began > 60 or process.poll() is not None:
                    raise SystemExit("bench: the server does not become ready")
                time.sleep(0.002)
        yield process, port, time.monotonic() - began
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def start(db, data):
    """Seconds until ready, and megabytes two seconds later."""
    with server(db, data) as (process, _, ready):
        time.sleep(2)
        status = Path(f"/proc/{process.pid}/status").read_text()
        kilobytes = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
        return ready, kilobytes / 1024


def starts(folder, rounds):
    print("\n| store | ready, ms | most | | memory, MB | most | |\n|---|---:|---:|---|---:|---:|---|")
    missed = 0
    for name, queued, most_ms, most_mb in STARTS:
        db, data = folder / f"start-{queued}.db", folder / f"data-{queued}"
        data.mkdir()
        if queued:
            fill(db, queued, max(1, queued // 20))
        seen = []
        for attempt in range(rounds):
            # An empty store is new each time: making it is part of the start.
            seen.append(start(db if queued else folder / f"empty-{attempt}.db", data))
        ready = statistics.median(one[0] for one in seen) * 1000
        memory = statistics.median(one[1] for one in seen)
        row = [name]
        for value, most in ((ready, most_ms), (memory, most_mb)):
            verdict = "" if most is None else "MISSED" if value > most else "OK"
            missed += verdict == "MISSED"
            row += [f"{value:.0f}", str(most or "–"), verdict]
        print("| " + " | ".join(row) + " |")
    return missed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each store (5)")
    parser.add_argument("--finished", type=int, default=1_000_000, help="finished jobs in the last store (1000000)")
    wanted = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="qgjob-scale-"))
    try:
        missed = starts(folder, wanted.rounds)
        stores = {BASE: (folder / "base.db", 20), QUEUED: (folder / "queued.db", 5_000), FINISHED: (folder / "finished.db", 20)}
        fill(stores[BASE][0], 1_000, 20)
        fill(stores[QUEUED][0], 100_000, 5_000)
        fill(stores[FINISHED][0], 1_000, 20, wanted.finished)
        finished = f"{wanted.finished:,} jobs are finished in the last store"
        missed += compare(stores, wanted.rounds, f"the store's verbs with their fsyncs; {finished}", by_verbs)
        missed += compare(stores, wanted.rounds, "the server's over HTTP, 50 clients", over_http)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main()
