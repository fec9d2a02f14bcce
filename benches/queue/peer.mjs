// One scenario on one of the other queues: `peer.mjs --queue=bullmq --port=… --server-pid=… --scenario=single`. The
// same scenarios, payload and measure as load/main.rs; prints one line of JSON with the same fields.
import { fork } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';

const wanted = Object.fromEntries(process.argv.slice(2).map((arg) => arg.replace(/^--/, '').split('=')));
const open = (await import(`./${wanted.queue}.mjs`)).default;
const seconds = Number(wanted.seconds ?? 2);
const clients = Number(wanted.clients ?? 64);
const jobs = Number(wanted.jobs ?? 10_000);
const rate = Number(wanted.rate ?? 2_000);
// Once a latency run should be over, how long the jobs that still wait are waited for.
const PATIENCE_MS = 10_000;

const now = () => Number(process.hrtime.bigint()) / 1e6; // ms of a clock that all processes share
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const payload = (number) => ({
  org_id: 'bench', app_version_id: `v${number % 20}`, bundle_sha256: '9f2c41d0'.repeat(8),
  test: `suite/login/${number}.spec.js`, labels: { branch: 'main', commit: '3f9a1c0b7d' }, env: { LOCALE: 'en_GB' },
});
const priority = (number) => 1 + ((number * 7) % 10);

// CPU seconds of each process below `root`, children that ended included.
function cpu(root) {
  const children = new Map();
  const used = new Map();
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ').map(Number);
      used.set(pid, (fields[11] + fields[12] + fields[13] + fields[14]) / 100);
      const parent = String(fields[1]);
      children.set(parent, [...(children.get(parent) ?? []), pid]);
    } catch {
      // It ended while it was looked at.
    }
  }
  const total = (pid) => (used.get(pid) ?? 0) + (children.get(pid) ?? []).reduce((sum, child) => sum + total(child), 0);
  return total(String(root));
}

async function submitInClosedLoop(queue, batch) {
  const until = now() + seconds * 1000;
  const took = [];
  let next = 0;
  const client = async () => {
    while (now() < until) {
      const first = next;
      next += batch;
      const began = now();
      if (batch === 1) {
        await queue.add(payload(first), priority(first));
      } else {
        const numbers = Array.from({ length: batch }, (_, at) => first + at);
        await queue.addMany(numbers.map(payload), numbers.map(priority));
      }
      took.push(now() - began);
    }
  };
  await Promise.all(Array.from({ length: clients }, client));
  return { jobs: took.length * batch, took };
}

async function fill(queue) {
  for (let first = 0; first < jobs; first += 1000) {
    const numbers = Array.from({ length: Math.min(1000, jobs - first) }, (_, at) => first + at);
    await queue.addMany(numbers.map(payload), numbers.map(priority));
  }
}

async function drain(queue) {
  let finished = 0;
  let over;
  const all = new Promise((done) => (over = done));
  const worker = await queue.work(clients, () => {}, () => ++finished === jobs && over());
  await all;
  worker.stop();
  return { jobs, took: [] };
}

// Offers jobs from this process and starts them in another one, so that neither waits for the other's thread.
async function latency(queue) {
  const total = rate * seconds;
  const worker = fork(process.argv[1], [...process.argv.slice(2), '--role=worker'], { serialization: 'advanced' });
  const heard = [];
  const said = (what) => new Promise((done) => worker.on('message', (message) => message[what] && done(message[what])));
  await said('ready');
  worker.on('message', (message) => message.took && heard.push(...message.took));
  const began = now();
  const sending = [];
  while (sending.length < total) {
    const due = Math.min(total, Math.floor(((now() - began) * rate) / 1000));
    while (sending.length < due) {
      const number = sending.length;
      sending.push(queue.add({ ...payload(number), due: began + (number * 1000) / rate }, priority(number)));
    }
    await sleep(1);
  }
  await Promise.all(sending);
  const until = now() + PATIENCE_MS;
  while (heard.length < total && now() < until) await sleep(20);
  worker.kill();
  return { jobs: heard.length, took: heard };
}

async function workForLatency(queue) {
  let took = [];
  await queue.work(clients, (data) => took.push(now() - data.due), () => {});
  setInterval(() => {
    if (took.length > 0) process.send({ took });
    took = [];
  }, 20);
  process.send({ ready: true });
}

const queue = await open(wanted);
if (wanted.role === 'worker') {
  await workForLatency(queue);
} else {
  await queue.clear();
  if (wanted.scenario === 'drain') await fill(queue);
  const scenarios = {
    single: () => submitInClosedLoop(queue, 1),
    bulk: () => submitInClosedLoop(queue, 100),
    drain: () => drain(queue),
    latency: () => latency(queue),
  };
  const [server, client, began] = [cpu(wanted['server-pid']), cpu(process.pid), now()];
  const done = await scenarios[wanted.scenario]();
  const lasted = (now() - began) / 1000;
  const took = done.took.sort((a, b) => a - b);
  const at = (part) => took[Math.min(took.length - 1, Math.floor(took.length * part))] ?? null;
  console.log(JSON.stringify({
    jobs: done.jobs, seconds: lasted, p50_ms: at(0.5), p99_ms: at(0.99),
    server_cpu: cpu(wanted['server-pid']) - server, client_cpu: cpu(process.pid) - client,
  }));
  process.exit(0);
}
