// pg-boss: four loops that fetch 100 jobs and complete them, without its worker, whose speed is that of its poll.
//
//   node pgboss.mjs CONNECTION JOBS
//
// Prints one JSON object.
import { PgBoss } from "pg-boss";

const [connectionString, jobs] = process.argv.slice(2);
const LOOPS = 4;
const BATCH = 100;
const count = Number(jobs);

const boss = new PgBoss({ connectionString, max: 10, supervise: false, schedule: false });
boss.on("error", (error) => {
  console.error(error);
  process.exit(1);
});
await boss.start();
await boss.createQueue("noop");
for (let n = 0; n < count; n += 1000) {
  await boss.insert("noop", Array.from({ length: 1000 }, (_, k) => ({ data: { n: n + k } })));
}
const begun = performance.now();
let done = 0;
await Promise.all(Array.from({ length: LOOPS }, async () => {
  for (;;) {
    const fetched = await boss.fetch("noop", { batchSize: BATCH });
    if (!fetched?.length) return;
    await boss.complete("noop", fetched.map((job) => job.id));
    done += fetched.length;
  }
}));
const seconds = (performance.now() - begun) / 1000;
await boss.stop({ graceful: false });
if (done !== count) throw new Error(`${done} jobs were done, not ${count}`);
console.log(JSON.stringify({ per_second: done / seconds }));
process.exit(0);
