// graphile-worker, as its authors measure it: four processes with 24 jobs at once, jobs that do nothing.
//
//   node graphile.mjs batched|default|start CONNECTION JOBS
//
// "batched" is their fastest: a local queue of 500 and completions that travel together. Prints one JSON object.
import { fork } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { Logger, makeWorkerUtils, run, runMigrations } from "graphile-worker";
import pg from "pg";

const [mode, connectionString, jobs] = process.argv.slice(2);
const PROCESSES = 4;
const logger = new Logger(() => () => {});
const preset = {
  worker: {
    connectionString,
    concurrentJobs: 24,
    maxPoolSize: 26,
    ...(mode === "batched"
      ? { localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 }
      : {}),
  },
};

if (process.env.PEER_CHILD) {
  await run({ preset, logger, noHandleSignals: true, taskList: { noop: () => {} } });
} else if (mode === "start") {
  console.log(JSON.stringify({ start_ms: await start(Number(jobs)) }));
  process.exit(0);
} else {
  console.log(JSON.stringify({ per_second: await drain(Number(jobs)) }));
  process.exit(0);
}

/** Jobs a second in the middle of a full queue. */
async function drain(count) {
  await runMigrations({ preset, logger });
  const client = new pg.Client({ connectionString });
  await client.connect();
  const fill = "select graphile_worker.add_job('noop', json_build_object('n', n)) from generate_series(1, $1) n";
  await client.query(fill, [count]);
  await client.query("vacuum analyze graphile_worker._private_jobs");
  const children = Array.from({ length: PROCESSES }, () =>
    fork(process.argv[1], process.argv.slice(2), { env: { ...process.env, PEER_CHILD: "1" } }));
  try {
    const from = await until(client, count * 0.9);
    const to = await until(client, count * 0.1);
    return (from.left - to.left) / ((to.at - from.at) / 1000);
  } finally {
    for (const child of children) child.kill("SIGKILL");
    await client.end();
  }
}

async function until(client, limit) {
  for (;;) {
    const { rows } = await client.query("select count(*)::int as left from graphile_worker._private_jobs");
    if (rows[0].left <= limit) return { left: rows[0].left, at: performance.now() };
    await sleep(20);
  }
}

/** From the call that adds a job to its handler, on an idle queue: the middle of so many. */
async function start(count) {
  let begun = () => {};
  const runner = await run({ preset, logger, noHandleSignals: true, taskList: { noop: () => begun() } });
  const utils = await makeWorkerUtils({ preset, logger });
  const times = [];
  for (let n = 0; n < count + 5; n++) {
    await sleep(15);
    const started = new Promise((resolve) => (begun = resolve));
    const from = performance.now();
    await utils.addJob("noop", { n });
    await started;
    // The first ones make connections and plans.
    if (n >= 5) times.push(performance.now() - from);
  }
  await utils.release();
  await runner.stop();
  times.sort((a, b) => a - b);
  return times[Math.floor(times.length / 2)];
}
