#!/usr/bin/env python3
"""The cost of running a test file through qgjob on a warm phone, beside plain `npx appwright test` of the same file.

Starts a simulated phone, a server and an agent of its own. Then, in alternation, on the same phone with the same app:

  qgjob       submit to verdict of a job whose phone has the build already
  plain       npx appwright test, which starts Appium itself
  plain-warm  the same with an Appium that somebody keeps running on port 4723

Overhead is the wall time minus the tests' own durations in Playwright's JSON report. Plain runs get what they need
to work on Linux at all, and never less than that: see plain/npx.
"""

import argparse
import ctypes
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from datetime import datetime, timezone
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
EXAMPLE = ROOT / "examples/appwright-demo"
APP_ID = "dev.qgjob.demo"
APPIUM_PORT = 4723
PR_SET_CHILD_SUBREAPER = 36
TICKS = os.sysconf("SC_CLK_TCK")
ARMS = ("qgjob", "plain", "plain-warm")


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


def wait_for(what, done, seconds=180):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = done()
        if found:
            return found
        time.sleep(0.1)
    raise SystemExit(f"bench: {what}: not within {seconds} s")


class Processes:
    """What this benchmark started, and the CPU time it took."""

    def __init__(self):
        # Orphans of either arm come to this process, so that their CPU time is counted and none is left behind.
        if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise SystemExit("bench: cannot become a subreaper")
        self.started = []
        self.apart = set()
        self.ours = os.getpid()

    def start(self, command, log, env, apart=False):
        with open(log, "wb") as out:
            process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=env)
        self.started.append(process)
        if apart:
            self.apart.add(process.pid)
        return process

    def tree(self, root):
        """Process ids below `root`, with their CPU seconds, those of reaped children included."""
        parents, cpu = {}, {}
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                fields = Path(f"/proc/{entry}/stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            parents[int(entry)] = int(fields[1])
            cpu[int(entry)] = sum(int(n) for n in fields[11:15]) / TICKS
        found, todo = {}, [root]
        while todo:
            parent = todo.pop()
            for pid, its_parent in parents.items():
                if its_parent == parent and pid not in self.apart:
                    found[pid] = cpu[pid]
                    todo.append(pid)
        return found

    def reap(self):
        """Reaps orphans, but none of the processes that are waited for by name."""
        own = {process.pid for process in self.started}
        for pid in self.tree(self.ours):
            if pid not in own:
                try:
                    os.waitpid(pid, os.WNOHANG)
                except ChildProcessError:
                    pass

    def cpu(self):
        """CPU seconds of everything but the phone so far."""
        self.reap()
        times = os.times()
        return times.children_user + times.children_system + sum(self.tree(self.ours).values())

    def end_below(self, pids):
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def end(self):
        for process in reversed(self.started):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
        self.end_below(self.tree(self.ours))
        self.reap()


class World:
    def __init__(self, arguments, work):
        self.work, self.test = work, arguments.test
        self.bin = Path(arguments.bin).resolve()
        self.processes = Processes()
        self.server_port, self.adb_port = free_port(), free_port()
        self.app = EXAMPLE / "build" / f"demo-{arguments.app_version}.apk"
        self.label = f"bench-{arguments.app_version}"
        self.env = dict(os.environ, QGJOB_CONFIG_DIR=str(work / "config"), QGJOB_NO_PROGRESS="1",
                        QGJOB_SERVER=f"http://127.0.0.1:{self.server_port}",
                        ANDROID_ADB_SERVER_PORT=str(self.adb_port), WDIO_LOG_LEVEL="error", PLAYWRIGHT_HTML_OPEN="never")
        self.cache = Path(arguments.cache).resolve()

    # Setting up

    def open(self):
        start, env, log = self.processes.start, self.env, lambda name: self.work / f"{name}.log"
        start([self.bin / "simulated-android", "--adb-server", str(self.adb_port),
               "--phone", "name=bench,port=0,model=Pixel 7,release=14,sdk=34"], log("phone"), env, apart=True)
        ready = wait_for("the phone", lambda: [line.split() for line in log("phone").read_text().splitlines()
                                               if line.startswith("ready ")])
        self.serial = ready[0][2]
        start([self.bin / "qgjob", "server", "run", "--listen", f"127.0.0.1:{self.server_port}",
               "--data-dir", self.work / "server"], log("server"), env)
        wait_for("the server", lambda: self.qgjob("device", "list", check=False).returncode == 0)
        start([self.bin / "qgjob", "agent", "run", "--name", "bench", "--state-dir", self.work / "agent",
               "--cache-dir", self.cache, "--adb-port", str(self.adb_port)],
              log("agent"), dict(env, QGJOB_LOG=os.environ.get("QGJOB_LOG", "info")))
        wait_for("the phone at the server", lambda: any(
            device["state"] == "idle" for device in self.json("device", "list")["items"]))
        self.qgjob("app", "upload", "--org-id=bench", f"--app-version-id={self.label}", self.app)

    def open_plain(self):
        """A checkout of the project with its packages, and what AppWright needs around it."""
        project = self.work / "plain"
        shutil.copytree(EXAMPLE, project, ignore=shutil.ignore_patterns(
            "node_modules", "build", "test-results", "playwright-report"))
        say("npm ci of the plain checkout")
        subprocess.run(["npm", "ci", "--prefer-offline", "--no-audit", "--no-fund"], cwd=project, check=True,
                       stdout=subprocess.DEVNULL)
        homes = sorted(self.cache.glob("webdriver-*/node_modules/appium/index.js"))
        home = homes[-1].parent.parent.parent
        real_npx, java = shutil.which("npx"), Path(shutil.which("java")).resolve()
        laid_out = self.work / "agent/android-sdk"
        sdk = str(laid_out) if laid_out.is_dir() else os.environ["ANDROID_HOME"]
        self.plain_env = dict(
            self.env, PATH=f"{HERE / 'plain'}:{self.env['PATH']}", PLAIN_REAL_NPX=real_npx, PLAIN_APP_ID=APP_ID,
            APPIUM_HOME=str(home), ANDROID_HOME=sdk, JAVA_HOME=os.environ.get("JAVA_HOME", str(java.parent.parent)),
            QGJOB_UDID=self.serial, QGJOB_APP=str(self.app), CI="1", npm_config_update_notifier="false")
        self.project = project

    # Talking to qgjob

    def qgjob(self, *words, check=True):
        done = subprocess.run([self.bin / "qgjob", *map(str, words)], cwd=EXAMPLE, env=self.env, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if check and done.returncode != 0:
            raise SystemExit(f"bench: qgjob {words} ended with {done.returncode}: {done.stderr}")
        return done

    def json(self, *words):
        return json.loads(self.qgjob(*words, "-o", "json").stdout)

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
        wait_for("an idle phone", lambda: self.json("device", "list")["items"][0]["state"] == "idle")
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
        report = self.work / "plain-report.json"
        report.unlink(missing_ok=True)
        if answers(APPIUM_PORT) != warm:
            raise SystemExit(f"bench: port {APPIUM_PORT} is in the wrong state")
        cpu, began = self.processes.cpu(), time.monotonic()
        done = subprocess.run(
            ["npx", "appwright", "test", self.test, "--project", project_name, "--workers=1", "--retries=0",
             "--reporter=list,json"], cwd=self.project,
            env=dict(self.plain_env, PLAYWRIGHT_JSON_OUTPUT_FILE=str(report)),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
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
        subprocess.run(["adb", "-P", str(self.adb_port), "-s", self.serial, "install", "-r", "-g", self.app], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def start_appium(self):
        self.keeper = self.processes.start(
            ["node", f"{self.plain_env['APPIUM_HOME']}/node_modules/appium/index.js", "--default-capabilities",
             json.dumps({"appium:adbPort": self.adb_port})], self.work / "kept.log", self.plain_env)
        wait_for("Appium", lambda: answers(APPIUM_PORT))

    def stop_appium(self):
        self.keeper.terminate()
        self.keeper.wait(20)
        self.processes.started.remove(self.keeper)

    def close(self):
        self.processes.end()
        subprocess.run(["adb", "-P", str(self.adb_port), "kill-server"], check=False, stderr=subprocess.DEVNULL)


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
                world.start_appium()
                world.warm_up()
                world.run_plain(first["project"], warm=True)
                world.warm_up()
                rows["plain-warm"].append(world.run_plain(first["project"], warm=True))
                world.stop_appium()
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
