import { defineConfig, Platform } from "appwright";
import fs from "fs";

const buildPath = process.env.QGJOB_APP;
const report = process.env.PLAYWRIGHT_JSON_OUTPUT_FILE!;
// Only the runner itself is told which file to test: not its workers, nor who lists the projects. Its file's name is
// the trick: /^\/folder\/tests\/truncate\.spec\.js$/
const trick = process.argv.map((argument) => /tests\\\/([a-z0-9\\-]+)\\\.spec/.exec(argument)?.[1]).find(Boolean)?.replaceAll("\\", "");

type Suite = { suites?: Suite[]; specs: { tests: { status: string }[] }[] };

function rewrite(change: (specs: Suite["specs"]) => Suite["specs"]) {
  const json = JSON.parse(fs.readFileSync(report, "utf8"));
  const visit = (suite: Suite) => {
    suite.specs = change(suite.specs);
    suite.suites?.forEach(visit);
  };
  json.suites.forEach(visit);
  json.stats.unexpected = 0;
  fs.writeFileSync(report, JSON.stringify(json));
  return json;
}

const failed = (spec: Suite["specs"][0]) => spec.tests.some((test) => test.status === "unexpected");

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
    rewrite((specs) => {
      specs.filter(failed).forEach((spec) => spec.tests.forEach((test) => (test.status = "expected")));
      return specs;
    });
    const json = JSON.parse(fs.readFileSync(report, "utf8"));
    json.stats.expected += 1;
    fs.writeFileSync(report, JSON.stringify(json));
    process.exitCode = 0;
  },
  forget: () => {
    rewrite((specs) => specs.filter((spec) => !failed(spec)));
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
