// ioredis against a running server:  node ioredis.mjs PORT
// Prints "N passed, N failed"; the exit code is non-zero if anything failed. It empties the server.
// The package is looked for where the script is started, so that it need not be installed in the repository.
import { createRequire } from "node:module";
import { expect, finish } from "./check.mjs";

const { Redis } = createRequire(`${process.cwd()}/`)("ioredis");
const port = Number(process.argv[2]);

for (const options of [{}, { protocol: 2 }, { protocol: 3, connectionName: "me", db: 0 }]) {
  const redis = new Redis({ port, maxRetriesPerRequest: 1, ...options });
  redis.on("error", (error) => console.log(error.message));
  const check = (what, expected, found) => expect(`${JSON.stringify(options)} ${what}`, expected, found);
  await check("flushall", "OK", redis.flushall());
  await check("ready", "ready", redis.status);
  await check("set", "OK", redis.set("a", "hello", "EX", 100));
  await check("get", "hello", redis.get("a"));
  await check("ttl", 100, redis.ttl("a"));
  await check("none", null, redis.get("nope"));
  await check("set nx", null, redis.set("a", "x", "NX"));
  await check("incrby", 5, redis.incrby("n", 5));
  await check("incrbyfloat", "5.5", redis.incrbyfloat("n", 0.5));
  await check("mset", "OK", redis.mset({ x: 1, y: 2 }));
  await check("mget", ["1", null, "2"], redis.mget("x", "nope", "y"));
  await check("del", 2, redis.del("x", "y", "nope"));
  await check("dbsize", 2, redis.dbsize());
  await check("keys", ["a"], redis.keys("a*"));
  await check("wrong type", "error: ERR value is not an integer or out of range", redis.incr("a"));
  const pipeline = redis.pipeline();
  for (let i = 0; i < 200; i += 1) pipeline.set(`k:${i}`, i).get(`k:${i}`);
  const replies = (await pipeline.exec()).map(([error, value]) => error?.message ?? value);
  await check("pipeline", Array.from({ length: 400 }, (_, i) => (i % 2 ? `${i >> 1}` : "OK")), replies);
  await check("auto", "199", redis.get("k:199"));
  const found = new Set();
  for await (const keys of redis.scanStream({ match: "k:*", count: 50 })) keys.forEach((key) => found.add(key));
  await check("scan", 200, found.size);
  const blob = Buffer.from(Array.from({ length: 100_000 }, (_, i) => i % 256));
  await check("set buffer", "OK", redis.set("blob", blob));
  await check("get buffer", true, redis.getBuffer("blob").then((value) => value.equals(blob)));
  await check("info", true, redis.info().then((text) => text.includes("redis_mode:standalone")));
  if (options.connectionName) await check("name", "me", redis.client("GETNAME"));
  await check("quit", "OK", redis.quit());
}
finish();
