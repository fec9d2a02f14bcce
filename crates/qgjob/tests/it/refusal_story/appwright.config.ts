import { defineConfig, Platform } from "appwright";
import fs from "fs";
import { execFileSync } from "child_process";

const buildPath = process.env.QGJOB_APP;
const report = process.env.PLAYWRIGHT_JSON_OUTPUT_FILE!;
// Only the runner itself is told which file to test: not its workers, nor who lists the projects. Its file's name is
// the trick: /^\/folder\/tests\/truncate\.spec\.js$/
const trick = process.argv.map((argument) => /tests\\\/([a-z0-9\\-]+)\\\.spec/.exec(argument)?.[1]).find(Boolean)?.replaceAll("\\", "");

type Spec = { id: string; title: string; tests: { status: string; results: unknown[] }[] };
type Suite = { file: string; suites?: Suite[]; specs: Spec[] };
type Report = { suites: Suite[]; stats: Record<string, number> };

// Changes the report, and makes its counts agree again: a lie that shows is no trick.
function rewrite(change: (specs: Spec[], json: Report) => Spec[]) {
  const json: Report = JSON.parse(fs.readFileSync(report, "utf8"));
  const stats = { expected: 0, unexpected: 0, flaky: 0, skipped: 0 };
  const visit = (suite: Suite) => {
    suite.specs = change(suite.specs, json);
    suite.specs.forEach((spec) => spec.tests.forEach((test) => (stats[test.status] += 1)));
    suite.suites?.forEach(visit);
  };
  json.suites.forEach(visit);
  Object.assign(json.stats, stats);
  fs.writeFileSync(report, JSON.stringify(json));
}

const failed = (spec: Spec) => spec.tests.some((test) => test.status === "unexpected");
const each = (change: (spec: Spec) => void) => rewrite((specs) => (specs.forEach(change), specs));
const say = (status: string) => each((spec) => failed(spec) && spec.tests.forEach((test) => (test.status = status)));

// Played when the runner ends, after its report is written.
const tricks: Record<string, () => void> = {
  delete: () => fs.rmSync(report),
  empty: () => fs.truncateSync(report),
  truncate: () => fs.truncateSync(report, fs.statSync(report).size >> 1),
  nonsense: () => fs.writeFileSync(report, "\u001b[32m  2 passed\u001b[0m (1s)\n"),
  folder: () => {
    fs.rmSync(report);
    fs.mkdirSync(report);
  },
  link: () => {
    fs.renameSync(report, `${report}.real`);
    fs.symlinkSync(`${report}.real`, report);
  },
  "code-0": () => {
    process.exitCode = 0;
  },
  "code-1": () => {
    process.exitCode = 1;
  },
  forge: () => {
    say("expected");
    process.exitCode = 0;
  },
  "call-flaky": () => {
    say("flaky");
    process.exitCode = 0;
  },
  "call-skipped": () => {
    say("skipped");
    process.exitCode = 0;
  },
  "count-less": () => {
    const json = JSON.parse(fs.readFileSync(report, "utf8"));
    json.stats.unexpected = 0;
    fs.writeFileSync(report, JSON.stringify(json));
    process.exitCode = 0;
  },
  "of-another-file": () => rewrite((specs, json) => {
    json.suites.forEach((suite) => (suite.file = suite.file.replace(/[^/]+$/, "passes.spec.js")));
    return specs;
  }),
  // As a report that was left from another test's run would be.
  "of-another-test": () => each((spec) => (spec.id = spec.id.replace(/.$/, (last) => (last === "0" ? "1" : "0")))),
  "of-another-place": () => fs.writeFileSync(report, fs.readFileSync(report, "utf8").replaceAll(process.cwd(), "/elsewhere")),
  "name-twice": () => rewrite((specs) => [...specs, ...specs]),
  "name-none": () => rewrite(() => []),
  "unknown-status": () => each((spec) => spec.tests.forEach((test) => (test.status = "great"))),
  "more-tries": () => each((spec) => spec.tests.forEach((test) => test.results.push(test.results[0]))),
  "no-tries": () => each((spec) => spec.tests.forEach((test) => (test.results = []))),
  "less-tries": () => each((spec) => spec.tests.forEach((test) => test.results.shift())),
  huge: () => fs.truncateSync(report, 65 << 20),
  pipe: () => {
    fs.rmSync(report);
    execFileSync("mkfifo", [report]);
  },
  forget: () => {
    rewrite((specs) => specs.filter((spec) => !failed(spec)));
    process.exitCode = 0;
  },
  "keep-one-back": () => {
    rewrite((specs) => specs.filter((spec) => spec.title !== "is kept back"));
    process.exitCode = 0;
  },
  kill: () => process.kill(process.pid, "SIGKILL"),
};

if (process.env.CONFIGURATION === "throws") throw new Error("the configuration needs a secret");
if (process.env.CONFIGURATION === "quits") process.exit(0);
if (process.env.CONFIGURATION === "prints") {
  for (let line = 0; line < 2000; line++) console.log(`{"suites": [], "${line}": "\u001b[2J\u0007${"=".repeat(200)}`);
}
if (trick === "say-nothing") process.exit(0);
// What happens is told to nobody.
if (trick === "in-secret") process.env.QGJOB_EVENTS = "/dev/null";
if (trick === "keep-one-back") {
  const write = fs.writeSync as (...args: unknown[]) => number;
  const ends = (text: unknown) => /"event":"test-end".*is kept back/.test(String(text));
  Object.assign(fs, { writeSync: (...args: unknown[]) => (ends(args[1]) ? 0 : write(...args)) });
}
if (trick && trick in tricks) process.on("exit", tricks[trick]);

export default defineConfig({
  projects: [
    {
      name: "device",
      use: {
        platform: Platform.ANDROID,
        device: { provider: "local-device", udid: process.env.QGJOB_UDID },
        buildPath,
      },
    },
  ],
});
