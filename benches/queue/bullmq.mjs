// BullMQ on Redis. Finished jobs are removed, which is the faster of its two ways.
import { Queue, Worker } from 'bullmq';
import { Redis } from 'ioredis';

export default async function open({ port }) {
  const connection = { host: '127.0.0.1', port: Number(port), maxRetriesPerRequest: null };
  const queue = new Queue('bench', { connection });
  const options = { removeOnComplete: true };
  await queue.waitUntilReady();
  return {
    add: (data) => queue.add('job', data, options),
    addMany: (all) => queue.addBulk(all.map((data) => ({ name: 'job', data, opts: options }))),
    async work(concurrency, started, finished) {
      const worker = new Worker('bench', async (job) => started(job.data), { connection, concurrency });
      worker.on('completed', finished);
      await worker.waitUntilReady();
      return { stop: () => worker.close(true) };
    },
    async clear() {
      const redis = new Redis(connection);
      await redis.flushall();
      await redis.quit();
    },
  };
}
