// node-redis against a running server:  node node_redis.mjs PORT
// Prints "N passed, N failed"; the exit code is non-zero if anything failed. It empties the server.
// The package is looked for where the script is started, so that it need not be installed in the repository.
import { createRequire } from "node:module";
import { expect, finish } from "./check.mjs";

const { createClient } = createRequire(`${process.cwd()}/`)("redis");
const port = Number(process.argv[2]);

for (const options of [{}, { RESP: 2 }, { RESP: 3, name: "me", database: 0 }]) {
  const redis = createClient({ socket: { port, host: "127.0.0.1", reconnectStrategy: false }, ...options });
  redis.on("error", (error) => console.log(error.message));
  await redis.connect();
  const check = (what, expected, found) => expect(`${JSON.stringify(options)} ${what}`, expected, found);
  await check("flushAll", "OK", redis.flushAll());
  await check("ping", "PONG", redis.ping());
  await check("set", "OK", redis.set("a", "hello", { EX: 100 }));
  await check("get", "hello", redis.get("a"));
  await check("ttl", 100, redis.ttl("a"));
  await check("none", null, redis.get("nope"));
  await check("set nx", null, redis.set("a", "x", { NX: true }));
  await check("incrBy", 5, redis.incrBy("n", 5));
  await check("mSet", "OK", redis.mSet({ x: "1", y: "2" }));
  await check("mGet", ["1", null, "2"], redis.mGet(["x", "nope", "y"]));
  await check("del", 2, redis.del(["x", "y", "nope"]));
  await check("dbSize", 2, redis.dbSize());
  await check("type", "string", redis.type("a"));
  await check("wrong type", "error: ERR value is not an integer or out of range", redis.incr("a"));
  const replies = await Promise.all(
    Array.from({ length: 200 }, (_, i) => [redis.set(`k:${i}`, `${i}`), redis.get(`k:${i}`)]).flat(),
  );
  await check("pipeline", Array.from({ length: 400 }, (_, i) => (i % 2 ? `${i >> 1}` : "OK")), replies);
  const found = new Set();
  for await (const keys of redis.scanIterator({ MATCH: "k:*", COUNT: 50 })) keys.forEach((key) => found.add(key));
  await check("scan", 200, found.size);
  await check("configGet", "1", redis.configGet("databases").then((config) => config.databases));
  await check("info", true, redis.info().then((text) => text.includes("redis_mode:standalone")));
  if (options.name) await check("name", "me", redis.clientGetName());
  await redis.close();
}
finish();
