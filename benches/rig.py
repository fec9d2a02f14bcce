"""Simulated phones with a server and an agent of their own, and plain AppWright on the same phones.

Plain runs get what they need to work on Linux at all, and never less than that: see plain/npx.
"""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import urllib.request
from pathlib import Path

from machine import answers, free_port, say, wait_for

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
EXAMPLE = ROOT / "examples/appwright-demo"
APP_ID = "dev.qgjob.demo"
# AppWright insists on it.
APPIUM_PORT = 4723
PR_SET_CHILD_SUBREAPER = 36
TICKS = os.sysconf("SC_CLK_TCK")


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

    def stop(self, process):
        process.terminate()
        process.wait(20)
        self.started.remove(process)

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
        """CPU seconds of everything but the phones so far. Not while a plain run is waited for."""
        self.reap()
        times = os.times()
        return times.children_user + times.children_system + sum(self.tree(self.ours).values())

    def end(self):
        for process in reversed(self.started):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
        for pid in self.tree(self.ours):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.reap()


class Rig:
    """`phones` is what each is called and which model it is."""

    def __init__(self, work, phones, bin_dir, cache):
        self.work, self.wanted = work, phones
        self.bin, self.cache = Path(bin_dir).resolve(), Path(cache).resolve()
        self.processes = Processes()
        self.server_port, self.adb_port, control = free_port(), free_port(), free_port()
        self.control = f"127.0.0.1:{control}"
        self.serials = {}
        self.env = dict(os.environ, QGJOB_CONFIG_DIR=str(work / "config"), QGJOB_NO_PROGRESS="1",
                        QGJOB_SERVER=f"http://127.0.0.1:{self.server_port}",
                        ANDROID_ADB_SERVER_PORT=str(self.adb_port), WDIO_LOG_LEVEL="error", PLAYWRIGHT_HTML_OPEN="never")

    def open(self):
        start, env, log = self.processes.start, self.env, lambda name: self.work / f"{name}.log"
        wanted = [word for name, model in self.wanted
                  for word in ("--phone", f"name={name},port=0,model={model},release=14,sdk=34")]
        start([self.bin / "simulated-android", "--control", self.control, "--adb-server", str(self.adb_port), *wanted],
              log("phones"), env, apart=True)

        def ready():
            lines = [line.split() for line in log("phones").read_text().splitlines() if line.startswith("ready ")]
            return {name: serial for _, name, serial in lines} if len(lines) == len(self.wanted) else None

        self.serials = wait_for("the phones", ready)
        start([self.bin / "qgjob", "server", "run", "--listen", f"127.0.0.1:{self.server_port}",
               "--data-dir", self.work / "server"], log("server"), env)
        wait_for("the server", lambda: self.qgjob("device", "list", check=False).returncode == 0)
        start([self.bin / "qgjob", "agent", "run", "--name", "bench", "--state-dir", self.work / "agent",
               "--cache-dir", self.cache, "--adb-port", str(self.adb_port)],
              log("agent"), dict(env, QGJOB_LOG=os.environ.get("QGJOB_LOG", "info")))
        self.wait_idle()

    def wait_idle(self):
        wait_for("idle phones", lambda: [device["state"] for device in self.json("device", "list")["items"]]
                 == ["idle"] * len(self.wanted))

    def close(self):
        self.processes.end()
        subprocess.run(["adb", "-P", str(self.adb_port), "kill-server"], check=False, stderr=subprocess.DEVNULL)

    # The phones

    def adb(self, name, *words, check=True):
        subprocess.run(["adb", "-P", str(self.adb_port), "-s", self.serials[name], *map(str, words)], check=check,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def ask_phone(self, name, verb="", body=None):
        """What the phone itself knows, or a fault for it."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self.control}/phones/{name}{verb}", data=data,
                                         headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    # qgjob

    def qgjob(self, *words, check=True):
        done = subprocess.run([self.bin / "qgjob", *map(str, words)], cwd=EXAMPLE, env=self.env, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if check and done.returncode != 0:
            raise SystemExit(f"bench: qgjob {words} ended with {done.returncode}: {done.stderr}")
        return done

    def json(self, *words):
        return json.loads(self.qgjob(*words, "-o", "json").stdout)

    # Plain AppWright

    def open_plain(self):
        """A checkout of the project with its packages, and what AppWright needs around it. The agent has run a job."""
        self.project = self.work / "plain"
        shutil.copytree(EXAMPLE, self.project, ignore=shutil.ignore_patterns(
            "node_modules", "build", "test-results", "playwright-report"))
        say("npm ci of the plain checkout")
        subprocess.run(["npm", "ci", "--prefer-offline", "--no-audit", "--no-fund"], cwd=self.project, check=True,
                       stdout=subprocess.DEVNULL)
        homes = sorted(self.cache.glob("webdriver-*/node_modules/appium/index.js"))
        self.appium = homes[-1]
        java, laid_out = Path(shutil.which("java")).resolve(), self.work / "agent/android-sdk"
        sdk = str(laid_out) if laid_out.is_dir() else os.environ["ANDROID_HOME"]
        self.plain_env = dict(
            self.env, PATH=f"{HERE / 'plain'}:{self.env['PATH']}", PLAIN_REAL_NPX=shutil.which("npx"),
            PLAIN_APP_ID=APP_ID, APPIUM_HOME=str(self.appium.parent.parent.parent), ANDROID_HOME=sdk,
            JAVA_HOME=os.environ.get("JAVA_HOME", str(java.parent.parent)), CI="1", npm_config_update_notifier="false")

    def start_appium(self):
        """An Appium that somebody keeps running for plain AppWright."""
        kept = self.processes.start(
            ["node", self.appium, "--default-capabilities", json.dumps({"appium:adbPort": self.adb_port})],
            self.work / "kept.log", self.plain_env)
        wait_for("Appium", lambda: answers(APPIUM_PORT))
        return kept

    def plain(self, test, app, phone, project, folder, **env):
        """Runs a test file as a developer would; answers how it ended and where its JSON report is."""
        report = self.work / f"{folder}.json"
        report.unlink(missing_ok=True)
        done = subprocess.run(
            ["npx", "appwright", "test", test, "--project", project, "--workers=1", "--retries=0", "--timeout=300000",
             "--reporter=list,json", f"--output={self.work / folder}"], cwd=self.project,
            env=dict(self.plain_env, PLAYWRIGHT_JSON_OUTPUT_FILE=str(report), QGJOB_UDID=self.serials[phone],
                     QGJOB_APP=str(app), **env),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return done, report
