#!/usr/bin/env python3
"""The cost of running a test file through qgjob on a warm phone, beside plain `npx appwright test` of the same file.

Starts a simulated phone, a server and an agent of its own. Then, in alternation, on the same phone with the same app:

  qgjob       submit to verdict of a job whose phone has the build already
  plain       npx appwright test, which starts Appium itself
  plain-warm  the same with an Appium that somebody keeps running on port 4723

Overhead is the wall time minus the tests' own durations in Playwright's JSON report. Plain runs get what they need
to work on Linux at all, and never less than that: see ../plain/npx.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from datetime import datetime, timezone
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from machine import answers, say, wait_for  # noqa: E402
from rig import APPIUM_PORT, EXAMPLE, ROOT, Rig  # noqa: E402

ARMS = ("qgjob", "plain", "plain-warm")
PHONE = "bench"


class World(Rig):
    def __init__(self, arguments, work):
        super().__init__(work, [(PHONE, "Pixel 7")], arguments.bin, arguments.cache)
        self.test = arguments.test
        self.app = EXAMPLE / "build" / f"demo-{arguments.app_version}.apk"
        self.label = f"bench-{arguments.app_version}"

    def open(self):
        super().open()
        self.qgjob("app", "upload", "--org-id=bench", f"--app-version-id={self.label}", self.app)

    def events(self, job_id):
        """The job's events up to its end, as the server streams them."""
        credentials = (self.work / "config/credentials.toml").read_text()
        token = re.search(r'^token *= *"(.+)"', credentials, re.MULTILINE).group(1)
        request = urllib.request.Request(f"{self.env['QGJOB_SERVER']}/api/v1/jobs/{job_id}/events",
                                         headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=30) as stream:
            for line in stream:
                if line.startswith(b"data:") and b'"type"' in line:
                    event = json.loads(line[5:])
                    yield event
                    if event["type"] == "job.completed":
                        return

    # The arms. Each returns wall seconds, seconds in tests, CPU seconds, and how many tests passed.

    def run_qgjob(self):
        cpu, began = self.processes.cpu(), time.monotonic()
        done = subprocess.run(
            [self.bin / "qgjob", "submit", "--org-id=bench", f"--app-version-id={self.label}", f"--test={self.test}",
             "-o", "json"], cwd=EXAMPLE, env=self.env, stdout=subprocess.PIPE, text=True, check=True)
        job_id = json.loads(done.stdout)["jobs"][0]["job_id"]
        subprocess.run([self.bin / "qgjob", "wait", "--job-id", job_id], env=self.env, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, check=True)
        client = time.monotonic() - began
        self.wait_idle()
        cpu = self.processes.cpu() - cpu
        job = self.json("status", "--job-id", job_id)
        server = seconds_between(job["created_at"], job["finished_at"])
        if job["install"]["action"] != "avoided":
            raise SystemExit(f"bench: the job was not warm: {job['install']}")
        files = self.work / "artifacts"
        shutil.rmtree(files, ignore_errors=True)
        self.qgjob("artifact", "download", job_id, "report.json", f"--dir={files}")
        report = Report(files / "report.json")
        return dict(wall_s=server, client_wall_s=client, test_s=report.seconds, cpu_s=cpu, passed=report.passed,
                    project=report.project, phases_s=self.phases(job_id))

    def phases(self, job_id):
        marks = []
        for event in self.events(job_id):
            if event["type"] == "job.phase":
                name = event["data"]["phase"] + ("-done" if event["data"].get("install") else "")
            else:
                name = event["type"]
            marks.append((name, event["at"]))
        marks = [mark for mark in marks if mark[0] not in ("test.finished", "job.log", "job.artifact")]
        return {f"{name} to {after}": seconds_between(at, end)
                for (name, at), (after, end) in zip(marks, marks[1:])}

    def gaps(self):
        """Seconds between the end of a job and the start of the next on the phone."""
        tests = [f"--test=tests/{name}.spec.js" for name in ("about", "catalog", "login", "settings")]
        run = self.json("submit", "--org-id=bench", f"--app-version-id={self.label}", *tests)
        self.qgjob("wait", "--run-id", run["run_id"])
        jobs = [self.json("status", "--job-id", job["job_id"]) for job in run["jobs"]]
        jobs.sort(key=lambda job: job["started_at"])
        return [seconds_between(one["finished_at"], other["started_at"]) for one, other in zip(jobs, jobs[1:])]

    def run_plain(self, project_name, warm):
        if answers(APPIUM_PORT) != warm:
            raise SystemExit(f"bench: port {APPIUM_PORT} is in the wrong state")
        cpu, began = self.processes.cpu(), time.monotonic()
        done, report = self.plain(self.test, self.app, PHONE, project_name, "plain-results")
        wall = time.monotonic() - began
        if not warm:
            wait_for("the end of AppWright's Appium", lambda: not answers(APPIUM_PORT), 30)
            time.sleep(0.2)
        cpu = self.processes.cpu() - cpu
        if done.returncode != 0:
            raise SystemExit(f"bench: plain AppWright ended with {done.returncode}:\n{done.stdout}")
        report = Report(report)
        return dict(wall_s=wall, client_wall_s=wall, test_s=report.seconds, cpu_s=cpu, passed=report.passed,
                    project=report.project)

    def warm_up(self):
        """Puts the app back, which AppWright's full reset has removed, in a way that costs neither arm anything."""
        self.adb(PHONE, "install", "-r", "-g", self.app)


class Report:
    """Playwright's JSON report: the seconds its tests took, fixtures included, and how many passed."""

    def __init__(self, path):
        self.seconds, self.passed, self.project = 0.0, 0, None
        report = json.loads(Path(path).read_text())
        for suite in report["suites"]:
            self.add(suite)
        if report["errors"] or report["stats"]["unexpected"] or not self.passed:
            raise SystemExit(f"bench: a run did not pass: {report['stats']} {report['errors']}")

    def add(self, suite):
        for inner in suite.get("suites", []):
            self.add(inner)
        for spec in suite.get("specs", []):
            for test in spec["tests"]:
                self.project = test["projectName"]
                self.seconds += sum(result["duration"] for result in test["results"]) / 1000
                self.passed += test["status"] == "expected"


def seconds_between(start, end):
    # The server's times end in Z, which fromisoformat takes from Python 3.11 on.
    moment = lambda text: datetime.fromisoformat(text.replace("Z", "+00:00"))
    return (moment(end) - moment(start)).total_seconds()


def median(rows, key):
    return statistics.median(row[key] for row in rows)


def summarise(rows):
    for row in rows:
        row["overhead_s"] = row["wall_s"] - row["test_s"]
        row["client_overhead_s"] = row["client_wall_s"] - row["test_s"]
    keys = ("wall_s", "client_wall_s", "test_s", "overhead_s", "client_overhead_s", "cpu_s")
    return {key: round(median(rows, key), 3) for key in keys}


def table(result):
    medians = result["medians"]
    print(f"{result['test']}, {result['tests']} tests, project {result['project']!r}, "
          f"{result['rounds']} rounds in alternation, medians in seconds")
    print(f"{'':12}{'total':>9}{'(client)':>10}{'tests':>9}{'overhead':>10}{'(client)':>10}{'CPU':>8}")
    for arm in ARMS:
        m = medians[arm]
        print(f"{arm:12}{m['wall_s']:9.2f}{m['client_wall_s']:10.2f}{m['test_s']:9.2f}{m['overhead_s']:10.2f}"
              f"{m['client_overhead_s']:10.2f}{m['cpu_s']:8.2f}")
    print()
    for arm, ratio in result["ratios"].items():
        print(f"qgjob / {arm}: overhead {ratio['overhead']:.2f} (by the client's clock {ratio['client_overhead']:.2f}), "
              f"total {ratio['total']:.2f} (client {ratio['client_total']:.2f}), CPU {ratio['cpu']:.2f}")
    print()
    print("a job's time, by the server's events, medians in ms: " + ", ".join(
        f"{name} {1000 * seconds:.0f}" for name, seconds in result["phases_s"].items()))
    print("from the end of a job to the start of the next on the phone, in ms: "
          + ", ".join(f"{1000 * seconds:.0f}" for seconds in result["gaps_s"]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="how often each arm is run (default 7)")
    parser.add_argument("--test", default="tests/onboarding.spec.js", help="a file of the example that passes")
    parser.add_argument("--app-version", default="1.4.2")
    parser.add_argument("--bin", default=ROOT / "target/release", help="folder of qgjob and simulated-android")
    parser.add_argument("--cache", default=ROOT / "target/bench-cache", help="the agent's cache, kept between runs")
    parser.add_argument("--out", default=ROOT / "target/warm-overhead.json", help="where the numbers go")
    parser.add_argument("--only-qgjob", action="store_true", help="leave the plain runs out, to look for time in a job")
    parser.add_argument("--keep", action="store_true", help="keep logs and data")
    arguments = parser.parse_args()

    if not arguments.only_qgjob and answers(APPIUM_PORT):
        raise SystemExit(f"bench: something listens on port {APPIUM_PORT}, which AppWright insists on")
    work = Path(tempfile.mkdtemp(prefix="qgjob-bench-"))
    world = World(arguments, work)
    rows = {arm: [] for arm in ARMS}
    try:
        world.open()
        world.warm_up()
        first = world.run_qgjob()
        if not arguments.only_qgjob:
            world.open_plain()
            world.run_plain(first["project"], warm=False)
        for number in range(arguments.rounds):
            world.warm_up()
            rows["qgjob"].append(world.run_qgjob())
            if not arguments.only_qgjob:
                rows["plain"].append(world.run_plain(first["project"], warm=False))
                kept = world.start_appium()
                world.warm_up()
                world.run_plain(first["project"], warm=True)
                world.warm_up()
                rows["plain-warm"].append(world.run_plain(first["project"], warm=True))
                world.processes.stop(kept)
            say(f"round {number + 1}: " + ", ".join(
                f"{arm} {runs[-1]['wall_s']:.2f} s, {runs[-1]['test_s']:.2f} s of it tests"
                for arm, runs in rows.items() if runs))
        world.warm_up()
        gaps = world.gaps()
    finally:
        world.close()
        if arguments.keep:
            say(f"logs are in {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)

    medians = {arm: summarise(runs) for arm, runs in rows.items() if runs}
    phases = {name: statistics.median(row["phases_s"].get(name, 0) for row in rows["qgjob"])
              for name in rows["qgjob"][0]["phases_s"]}
    if arguments.only_qgjob:
        print(json.dumps(dict(medians=medians, phases_s=phases, gaps_s=gaps), indent=1))
        return
    ours = medians["qgjob"]
    ratio = lambda key, arm: round(ours[key] / medians[arm][key], 3)
    counts = {row["passed"] for runs in rows.values() for row in runs}
    if len(counts) != 1:
        raise SystemExit(f"bench: the arms did not run the same number of tests: {counts}")
    result = dict(
        at=datetime.now(timezone.utc).isoformat(timespec="seconds"), test=arguments.test, tests=counts.pop(),
        project=first["project"], rounds=arguments.rounds, cores=os.cpu_count(), load_average=os.getloadavg(),
        medians=medians,
        ratios={arm: dict(overhead=ratio("overhead_s", arm), client_overhead=ratio("client_overhead_s", arm),
                          total=ratio("wall_s", arm), client_total=ratio("client_wall_s", arm), cpu=ratio("cpu_s", arm))
                for arm in ARMS[1:]},
        phases_s=phases, gaps_s=gaps, runs=rows)
    out = Path(arguments.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    table(result)
    print(f"\nall numbers: {out}")


if __name__ == "__main__":
    main()
