#!/usr/bin/env python3
"""Forty AppWright jobs of four versions of the demo app on two simulated phones: by qgjob, and by a plain loop.

The jobs come in an order in which four pipelines would submit them at once: the first test file of each version, then
the second, and so on. Each is submitted to qgjob as a run of its own. The plain loops, one per phone, take the next
job from the same list and run `npx appwright test` for it.

AppWright insists on port 4723 for its Appium and starts one in each run, so two runs at once on one host fail: this is
tried first, and what came of it is reported. The loops that are timed therefore get an Appium that somebody keeps on
that port for both, and the other help of ../plain/npx. --one-loop adds what works without: one loop that takes the
phones in turn. How long an install takes is for --install-seconds to say; installs are counted by the phones.

The target is for phones that need time to install: with 0 seconds there is nothing to save. Exit code 1 when a verdict
is not the expected one, or the target is missed.
"""

import argparse
import itertools
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from datetime import datetime, timezone
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from machine import answers, say, wait_for  # noqa: E402
from rig import APP_ID, APPIUM_PORT, EXAMPLE, ROOT, Rig  # noqa: E402

PHONES = [("pixel-7", "Pixel 7"), ("pixel-8", "Pixel 8")]
# Version, version code, and whose screens it shows: no two have the same bytes.
VERSIONS = [("1.4.2", 10402, "1.4.2"), ("1.4.3", 10403, "1.4.2"), ("1.5.0", 10500, "1.5.0"), ("1.5.1", 10501, "1.5.0")]
FILES = ["about", "known-bug", "catalog", "login", "navigation", "order-history", "onboarding", "password-reset", "settings",
         "screenshot"]
# What fails, on purpose: the file, and on whose screens.
BUG = ("known-bug", "1.5.0")
# At least as many times sooner than the two loops, where an install takes time.
TARGET = 2.0


class Job:
    def __init__(self, number, name, version, screens):
        self.number, self.version = number, version
        self.test = f"tests/{name}.spec.js"
        self.expected = "failed" if (name, screens) == BUG else "passed"
        self.app = EXAMPLE / "build" / f"demo-{version}.apk"


class Bench(Rig):
    def __init__(self, work, wanted):
        super().__init__(work, PHONES, wanted.bin, wanted.cache)
        each = [(name, version, screens) for name in FILES[:wanted.files] for version, _, screens in VERSIONS]
        self.jobs = [Job(number, *what) for number, what in enumerate(each)]

    def open(self):
        for version, code, screens in VERSIONS:
            subprocess.run([EXAMPLE / "app/build.sh", version, str(code), screens], check=True, stdout=subprocess.DEVNULL)
        super().open()
        for version, _, _ in VERSIONS:
            self.qgjob("app", "upload", "--org-id=bench", f"--app-version-id={version}",
                       EXAMPLE / "build" / f"demo-{version}.apk")
        say("a first job on each phone, by qgjob and by AppWright alone")
        first = self.jobs[0]
        for _, model in PHONES:
            self.qgjob("submit", "--org-id=bench", f"--app-version-id={first.version}", f"--test={first.test}",
                       f"--device=model={model}", "--wait")
        self.open_plain()
        for name, _ in PHONES:
            self.clean(name)
            verdict = self.run_plain(first, name)
            if verdict != "passed":
                raise SystemExit(f"bench: AppWright alone does not work here: {verdict}")
        wait_for("the end of AppWright's Appium", lambda: not answers(APPIUM_PORT), 30)

    def clean(self, phone):
        """The phone as the jobs find it: without the app."""
        self.adb(phone, "uninstall", APP_ID, check=False)

    def begin(self, install_ms):
        for name, _ in PHONES:
            self.ask_phone(name, "/faults", {"kind": "slow_install", "ms": 0})
            self.clean(name)
            self.ask_phone(name, "/faults", {"kind": "slow_install", "ms": install_ms})
            self.ask_phone(name, "/reset-truth", {})

    def end(self, way, began, verdicts):
        wall = time.monotonic() - began
        installs = [install for name, _ in PHONES for install in self.ask_phone(name)["installs"] if not install["helper"]]
        return dict(way=way, wall_s=wall, installs=len(installs),
                    lost_s=sum(install["took_ms"] for install in installs) / 1000, verdicts=verdicts)

    def by_qgjob(self, install_ms):
        self.wait_idle()
        self.begin(install_ms)
        began = time.monotonic()
        submitted = [self.json("submit", "--org-id=bench", f"--app-version-id={job.version}", f"--test={job.test}",
                               "--test-retries=0", "--timeout=10m") for job in self.jobs]
        for one in submitted:
            self.qgjob("wait", "--run-id", one["run_id"], check=False)
        result = self.end("qgjob", began, [])
        seen = [self.json("status", "--job-id", one["job_id"]) for one in submitted]
        result["verdicts"] = [job["conclusion"] for job in seen]
        made = sum(job["install"]["action"] != "avoided" for job in seen)
        if made != result["installs"]:
            raise SystemExit(f"bench: the ledger says {made} installs, the phones counted {result['installs']}")
        return result

    def run_plain(self, job, phone, **env):
        done, report = self.plain(job.test, job.app, phone, "device", f"plain-{phone}", **env)
        try:
            stats = json.loads(report.read_text())["stats"]
        except (OSError, ValueError):
            return f"no report: {done.stdout[-300:]}"
        if done.returncode == 0 and stats["expected"] and not stats["unexpected"]:
            return "passed"
        return "failed" if stats["unexpected"] else f"exit code {done.returncode}"

    def by_loops(self, way, loops, install_ms):
        """`loops` is which phones each loop has. Several loops share an Appium that is kept for them."""
        self.begin(install_ms)
        kept = self.start_appium() if len(loops) > 1 else None
        waiting, verdicts = queue.SimpleQueue(), [None] * len(self.jobs)
        for job in self.jobs:
            waiting.put(job)

        def loop(phones):
            for phone in itertools.cycle(phones):
                try:
                    job = waiting.get_nowait()
                except queue.Empty:
                    return
                verdicts[job.number] = self.run_plain(job, phone)

        began = time.monotonic()
        at_once(loop, loops)
        result = self.end(way, began, verdicts)
        if kept:
            self.processes.stop(kept)
        return result

    def by_two_loops(self, install_ms):
        return self.by_loops("two plain loops", [[name] for name, _ in PHONES], install_ms)

    def by_one_loop(self, install_ms):
        return self.by_loops("one plain loop", [[name for name, _ in PHONES]], install_ms)

    def two_at_once(self):
        """What comes of two runs of AppWright as it is published, each of which starts its own Appium."""
        verdicts = {}

        def one(phone):
            verdicts[phone] = self.run_plain(self.jobs[0], phone, PLAIN_AS_PUBLISHED="1")

        at_once(one, [name for name, _ in PHONES])
        return verdicts


def at_once(what, each):
    threads = [threading.Thread(target=what, args=(one,), daemon=True) for one in each]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def judge(results, jobs, install_s):
    """Adds to each result what follows from all; answers whether something is not as it must be."""
    expected, ours = [job.expected for job in jobs], results[0]
    bad = False
    for result in results:
        result["wrong"] = sum(one != right for one, right in zip(result["verdicts"], expected))
        result["lost_share"] = result["lost_s"] / (len(PHONES) * result["wall_s"])
        result["sooner"] = result["wall_s"] / ours["wall_s"]
        judged = install_s > 0 and result["way"] == "two plain loops"
        result["target"] = "" if not judged else "OK" if result["sooner"] >= TARGET else "MISSED"
        bad = bad or result["wrong"] > 0 or result["target"] == "MISSED"
    return bad


def table(results, install_s):
    print(f"\n{install_s:g} s for an install\n")
    print("| | installs | wall time | device time lost to installs | wrong verdicts | qgjob is sooner by | |")
    print("|---|---:|---:|---:|---:|---:|---|")
    for result in results:
        lost = f"{result['lost_s']:.0f} s, {100 * result['lost_share']:.0f} %"
        sooner = "" if result is results[0] else f"{result['sooner']:.2f}×"
        print(f"| {result['way']} | {result['installs']} | {result['wall_s']:.0f} s | {lost} | {result['wrong']} "
              f"| {sooner} | {result['target']} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--install-seconds", type=lambda text: [float(one) for one in text.split(",")], default=[0, 10],
                        metavar="A,B", help="how long a phone takes to install (default 0,10)")
    parser.add_argument("--files", type=int, choices=range(1, len(FILES) + 1), default=len(FILES), metavar="N",
                        help=f"how many test files, for a quick look (default {len(FILES)})")
    parser.add_argument("--one-loop", action="store_true", help="run the jobs by one loop, too")
    parser.add_argument("--bin", default=ROOT / "target/release", help="folder of qgjob and simulated-android")
    parser.add_argument("--cache", default=ROOT / "target/bench-cache", help="the agent's cache, kept between runs")
    parser.add_argument("--out", default=ROOT / "target/phones.json", help="where the numbers go")
    parser.add_argument("--keep", action="store_true", help="keep logs and data")
    wanted = parser.parse_args()
    if answers(APPIUM_PORT):
        raise SystemExit(f"bench: something listens on port {APPIUM_PORT}, which AppWright insists on")

    work = Path(tempfile.mkdtemp(prefix="qgjob-phones-"))
    bench, rounds = Bench(work, wanted), []
    ways = [bench.by_qgjob, bench.by_two_loops] + [bench.by_one_loop] * wanted.one_loop
    try:
        bench.open()
        published = bench.two_at_once()
        say(f"two plain runs at once: {published}")
        for install_s in wanted.install_seconds:
            results = []
            for way in ways:
                result = way(int(install_s * 1000))
                results.append(result)
                say(f"{result['way']}, {install_s:g} s for an install: {result['wall_s']:.0f} s, {result['installs']} "
                    f"installs, load average {os.getloadavg()[0]:.1f}")
            rounds.append((install_s, results))
    finally:
        bench.close()
        if wanted.keep:
            say(f"logs are in {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)

    bad = [judge(results, bench.jobs, install_s) for install_s, results in rounds]
    print(f"{len(bench.jobs)} jobs, {len(VERSIONS)} versions, {len(PHONES)} phones; two runs of AppWright at once, each with "
          f"an Appium of its own: {', '.join(published.values())}")
    for install_s, results in rounds:
        table(results, install_s)
    document = dict(
        at=datetime.now(timezone.utc).isoformat(timespec="seconds"), jobs=[vars(job) | {"app": job.app.name} for job in bench.jobs],
        phones=[name for name, _ in PHONES], cores=os.cpu_count(), load_average=os.getloadavg(), published=published,
        rounds=[dict(install_s=install_s, ways=results) for install_s, results in rounds])
    out = Path(wanted.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(document, indent=1) + "\n")
    print(f"\nall numbers: {out}")
    sys.exit(1 if any(bad) else 0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main()
