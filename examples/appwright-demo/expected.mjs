// Compares what happened in the demo with what the suite is made to do, and with what the phones themselves counted.
// usage: node expected.mjs RUN_1.4.2.json RUN_1.5.0.json PHONE.truth.json...
import { readFileSync } from "node:fs";

const [good, bad, ...phones] = process.argv.slice(2).map((file) => JSON.parse(readFileSync(file, "utf8")));
const wrong = [];
const expect = (what, found, wanted) => {
  const same = JSON.stringify(found) === JSON.stringify(wanted);
  console.log(`${same ? "as expected" : "NOT EXPECTED"}: ${what}: ${JSON.stringify(found)}`);
  if (!same) wrong.push(what);
};
const jobs = (run, conclusion) => run.job_list.filter((job) => job.conclusion === conclusion).map((job) => job.test);
const tests = (run) => {
  const sum = { passed: 0, failed: 0, flaky: 0, skipped: 0 };
  for (const job of run.job_list) for (const key in sum) sum[key] += job.tests[key];
  return sum;
};

expect("verdict of 1.4.2", good.conclusion, "passed");
expect("tests of 1.4.2", tests(good), { passed: 21, failed: 0, flaky: 1, skipped: 2 });
expect("verdict of 1.5.0", bad.conclusion, "failed");
expect("tests of 1.5.0", tests(bad), { passed: 20, failed: 1, flaky: 1, skipped: 2 });
expect("what failed in 1.5.0", jobs(bad, "failed"), ["tests/known-bug.spec.js"]);
expect("what was skipped whole", [...jobs(good, "skipped"), ...jobs(bad, "skipped")], Array(2).fill("tests/gift-cards.spec.js"));
const made = good.installs.made + bad.installs.made;
const counted = phones.flatMap((phone) => phone.installs).filter((install) => !install.package.startsWith("io.appium."));
expect("installs, as the phones counted them, are those of the ledger", counted.length, made);
const attempts = good.job_list.concat(bad.job_list).reduce((sum, job) => sum + job.attempts, 0);
expect("installs made and avoided are all attempts", made + good.installs.avoided + bad.installs.avoided, attempts);
console.log(`${attempts} attempts, ${made} installs made, ${attempts - made} avoided`);
process.exit(wrong.length === 0 ? 0 : 1);
