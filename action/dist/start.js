'use strict';
// Starts qgjob as this process's direct child, hands signals on to it, and ends as it ended. All else is its own work.

const { spawn } = require('node:child_process');
const { randomUUID } = require('node:crypto');
const fs = require('node:fs');
const { constants } = require('node:os');
const path = require('node:path');

/** The value of an input, as the runner sets it. */
const input = (name) => (process.env[`INPUT_${name.replace(/ /g, '_').toUpperCase()}`] || '').trim();

/** Text in a workflow command. */
const escaped = (text) => text.replace(/%/g, '%25').replace(/\r/g, '%0D').replace(/\n/g, '%0A');

/** Ends with an error that is shown at the workflow run. */
function fail(what, hint) {
  console.log(`::error title=${escaped(what).replace(/:/g, '%3A').replace(/,/g, '%2C')}::${escaped(hint)}`);
  process.exit(2);
}

function isProgram(file) {
  try {
    fs.accessSync(file, fs.constants.X_OK);
    return fs.statSync(file).isFile();
  } catch {
    return false;
  }
}

/** The absolute path of qgjob: of the input `binary`, else of the PATH. */
function find() {
  const wanted = input('binary');
  if (wanted) {
    const file = path.resolve(wanted);
    if (!isProgram(file)) {
      fail('The input binary is no program', `${file} is not there or cannot be executed.`);
    }
    return file;
  }
  const dirs = (process.env.PATH || '').split(path.delimiter).filter(path.isAbsolute);
  const file = dirs.map((dir) => path.join(dir, 'qgjob')).find(isProgram);
  if (!file) {
    const install = 'cargo install --locked --path crates/qgjob in a checkout of qgjob';
    fail(
      'qgjob is not on the PATH',
      `Install it in a step before (${install}), have it in the image of the runner, or name it with the input binary.`,
    );
  }
  return file;
}

/** Hides a secret in the logs of the job. */
function mask(secret) {
  for (const line of secret.split(/\r?\n/).filter((line) => line.length >= 4)) {
    console.log(`::add-mask::${escaped(line)}`);
  }
}

/** Keeps a value for the post step. */
function save(name, value) {
  if (process.env.GITHUB_STATE) {
    const end = `end_${randomUUID()}`;
    fs.appendFileSync(process.env.GITHUB_STATE, `${name}<<${end}\n${value}\n${end}\n`);
  }
}

/** Runs qgjob to its end and ends with its exit code. */
function start(binary, args) {
  let child;
  // Before the child is there: a signal in between would end this process and leave the child alone.
  for (const signal of ['SIGINT', 'SIGTERM']) {
    process.on(signal, () => child.kill(signal));
  }
  child = spawn(binary, args, { stdio: 'inherit' });
  child.on('error', (error) => fail('qgjob cannot be started', error.message));
  child.on('exit', (code, signal) => process.exit(code ?? 128 + constants.signals[signal]));
}

module.exports = { find, input, mask, save, start };
