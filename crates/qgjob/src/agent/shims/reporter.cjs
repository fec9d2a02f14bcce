'use strict';
// Added by PW_TEST_REPORTER to whatever reporters the project's config names: one JSON line per event is
// appended to $QGJOB_EVENTS, each in one write, so that a reader never sees half of one. Whatever happens
// here, the tests go on.
const fs = require('fs');

const MAX_TEXT = 16 * 1024;   // characters of an error, a snippet, or one chunk of output
const MAX_TITLE = 1024;
const MAX_LIST = 100;         // errors, attachments or annotations of one result

function text(value, max = MAX_TEXT) {
  if (value === undefined || value === null) return undefined;
  // eslint-disable-next-line no-control-regex
  const plain = String(value).replace(/\u001b\[[0-9;?]*[ -/]*[@-~]/g, '');
  if (plain.length <= max) return plain;
  return `${plain.slice(0, max)}… [${plain.length - max} characters cut]`;
}

function line(event) {
  const above = [];
  return JSON.stringify(event, function (key, value) {
    if (typeof value === 'bigint') return String(value);
    if (typeof value === 'function' || typeof value === 'symbol') return String(value).slice(0, 100);
    if (typeof value === 'object' && value !== null) {
      while (above.length && above[above.length - 1] !== this) above.pop();
      if (above.includes(value)) return '[circular]';
      above.push(value);
    }
    return value;
  }) + '\n';
}

const place = (location) => location && { file: location.file, line: location.line, column: location.column };

const failure = (error) => error && {
  message: text(error.message ?? error.value ?? 'unknown error'),
  location: place(error.location),
  snippet: text(error.snippet),
};

function project(test) {
  for (let suite = test.parent; suite; suite = suite.parent) if (suite.type === 'project') return suite.title;
  return '';
}

// titlePath() is ['', project, file, ...describes, title].
const titles = (test) => test.titlePath().slice(3).map((title) => text(title, MAX_TITLE));

// How many titles of a test name what must run as one: fewer than all in a serial suite. What is serial only a private field
// says; where it is missing, so is the answer. So it is for a test that another file wrote, which no list can name.
function unit(test) {
  let titles = test.titlePath().length - 3;
  for (let suite = test.parent; suite && suite.type !== 'project' && suite.type !== 'root'; suite = suite.parent) {
    if (typeof suite._parallelMode !== 'string') return undefined;
    if (suite.type === 'file' && suite.location && suite.location.file !== test.location.file) return undefined;
    if (suite._parallelMode === 'serial') titles = suite.titlePath().length - 3;
  }
  return titles;
}

class Events {
  constructor() {
    this.fd = null;
    this.guard(() => { if (process.env.QGJOB_EVENTS) this.fd = fs.openSync(process.env.QGJOB_EVENTS, 'a'); });
  }

  guard(work) {
    try {
      work();
    } catch (error) {
      if (!this.complained) process.stderr.write(`qgjob: events are incomplete: ${error.message}\n`);
      this.complained = true;
    }
  }

  put(make) {
    this.guard(() => { if (this.fd !== null) fs.writeSync(this.fd, line({ at: new Date().toISOString(), ...make() })); });
  }

  printsToStdio() { return false; }

  onBegin(config, suite) {
    this.put(() => ({
      event: 'begin', playwright: config.version, workers: config.workers,
      tests: suite.allTests().map((test) => ({
        id: test.id, title: titles(test), unit: unit(test), file: test.location.file, line: test.location.line, project: project(test),
      })),
    }));
  }

  onTestBegin(test, result) {
    this.put(() => ({ event: 'test-begin', id: test.id, title: titles(test), retry: result.retry, worker: result.workerIndex }));
  }

  onStepEnd(test, result, step) {
    if (step.category !== 'test.step' && step.category !== 'expect') return;
    this.put(() => ({
      event: 'step', id: test.id, retry: result.retry, title: text(step.title, MAX_TITLE), category: step.category,
      duration_ms: step.duration, error: step.error && text(step.error.message),
    }));
  }

  onStdOut(chunk, test) { this.put(() => ({ event: 'stdout', id: test && test.id, text: text(chunk) })); }

  onStdErr(chunk, test) { this.put(() => ({ event: 'stderr', id: test && test.id, text: text(chunk) })); }

  onTestEnd(test, result) {
    this.put(() => ({
      event: 'test-end', id: test.id, title: titles(test), retry: result.retry, retries: test.retries,
      status: result.status, expected: test.expectedStatus, outcome: test.outcome(), ok: test.ok(),
      duration_ms: result.duration,
      errors: result.errors.slice(0, MAX_LIST).map(failure),
      annotations: test.annotations.slice(0, MAX_LIST).map((a) => ({ type: text(a.type, MAX_TITLE), description: text(a.description, MAX_TITLE) })),
      attachments: result.attachments.slice(0, MAX_LIST).map((a) => ({
        name: text(a.name, MAX_TITLE), content_type: text(a.contentType, MAX_TITLE), path: a.path, bytes: a.body && a.body.length,
      })),
    }));
  }

  onError(error) { this.put(() => ({ event: 'error', ...failure(error) })); }

  onEnd(result) { this.put(() => ({ event: 'end', status: result.status, duration_ms: result.duration })); }
}

module.exports = Events;
