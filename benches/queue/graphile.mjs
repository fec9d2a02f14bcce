// Graphile Worker on PostgreSQL; `--local-queue=1` with the settings that its own benchmark uses: a local queue of
// 500 jobs, completions in batches.
import { Logger, makeWorkerUtils, run } from 'graphile-worker';
import pg from 'pg';

export default async function open({ port, 'local-queue': localQueue }) {
  const connectionString = `postgres://postgres@127.0.0.1:${port}/postgres`;
  const logger = new Logger(() => () => {});
  const pool = new pg.Pool({ connectionString, max: 20 });
  // The server ends before its clients at the end of the benchmark.
  pool.on('error', () => {});
  pool.on('connect', (client) => client.on('error', () => {}));
  const utils = await makeWorkerUtils({ pgPool: pool, logger });
  await utils.migrate();
  const batches = localQueue
    ? { localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 }
    : {};
  return {
    add: (data, priority) => utils.addJob('job', data, { priority }),
    addMany: (all, priorities) =>
      utils.addJobs(all.map((payload, at) => ({ identifier: 'job', payload, priority: priorities[at] }))),
    async work(concurrency, started, finished) {
      const worker = { connectionString, concurrentJobs: concurrency, maxPoolSize: 25, pollInterval: 2000, logger, ...batches };
      const taskList = { job: async (data) => started(data) };
      const runner = await run({ preset: { worker }, taskList, noHandleSignals: true, logger });
      runner.events.on('job:complete', finished);
      return { stop: () => runner.stop().catch(() => {}) };
    },
    async clear() {
      await pool.query('truncate graphile_worker._private_jobs');
    },
  };
}
