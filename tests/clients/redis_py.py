"""redis-py against a running server:  redis_py.py PORT

Prints "N passed, N failed"; the exit code is non-zero if anything failed. It empties the server.
"""

import asyncio
import sys

import redis
import redis.asyncio

PORT = int(sys.argv[1])
passed, failed = 0, 0


def expect(what, expected, found):
    global passed, failed
    if expected == found:
        passed += 1
    else:
        failed += 1
        print(f"FAILED {what}: expected {expected!r}, found {found!r}")


def error_of(call):
    try:
        return f"no error but {call()!r}"
    except redis.RedisError as error:
        return str(error)


def commands(r, name):
    def check(what, expected, found):
        expect(f"{name}: {what}", expected, found)

    r.flushall()
    check("ping", True, r.ping())
    check("set", True, r.set("a", "hello"))
    check("get", "hello", r.get("a"))
    check("get none", None, r.get("nope"))
    check("set nx", None, r.set("a", 1, nx=True))
    check("set get", "hello", r.set("a", "x", get=True))
    check("set px", True, r.set("p", 1, px=100_000))
    check("ttl", 100, r.ttl("p"))
    check("persist", True, r.persist("p"))
    check("expire nx", True, r.expire("p", 50, nx=True))
    check("expire gt", False, r.expire("p", 10, gt=True))
    check("incrby", 7, r.incrby("n", 7))
    check("incrbyfloat", 7.5, r.incrbyfloat("n", 0.5))
    check("mset", True, r.mset({"x": 1, "y": 2}))
    check("mget", ["1", None, "2"], r.mget("x", "nope", "y"))
    check("msetnx", False, r.msetnx({"x": 1, "z": 2}))
    check("append", 2, r.append("a", "y"))
    check("getrange", "xy", r.getrange("a", 0, -1))
    check("setrange", 3, r.setrange("a", 1, "zz"))
    check("strlen", 3, r.strlen("a"))
    check("getdel", "xzz", r.getdel("a"))
    check("getex", "1", r.getex("x", ex=10))
    check("type", "string", r.type("x"))
    check("exists", 2, r.exists("x", "y", "nope"))
    check("delete", 1, r.delete("y"))
    check("dbsize", 3, r.dbsize())
    check("scan", {"x", "p", "n"}, set(r.scan_iter(count=2)))
    check("keys", ["x"], r.keys("x*"))
    check("config get", {"databases": "1"}, r.config_get("databases"))
    check("info", "standalone", r.info()["redis_mode"])
    check("info keyspace", 3, r.info("keyspace")["db0"]["keys"])
    check("client setname", True, r.client_setname("me"))
    check("client getname", "me", r.client_getname())
    check("client list", True, any(c["name"] == "me" for c in r.client_list()))
    check("client info", "redis-py", r.client_info()["lib-name"])
    check("command count", True, r.command_count() > 50)
    check("command", 2, r.command()["get"]["arity"])
    check("time", 2, len(r.time()))
    check("echo", "hi", r.echo("hi"))
    r.set("text", "abc")
    check("not an integer", "value is not an integer or out of range", error_of(lambda: r.incr("text")))
    check("unknown", True, "unknown command" in error_of(lambda: r.execute_command("NOSUCH", "a")))
    pipe = r.pipeline(transaction=False)
    for i in range(200):
        pipe.set(f"k:{i}", i).get(f"k:{i}")
    check("pipeline", [v for i in range(200) for v in (True, str(i))], pipe.execute())
    blob = bytes(range(256)) * 4000
    raw = redis.Redis(port=PORT)
    raw.set("blob", blob)
    check("bytes", blob, raw.get("blob"))


async def asynchronous():
    r = redis.asyncio.Redis(port=PORT, decode_responses=True, protocol=3)
    await asyncio.gather(*(r.set(f"async:{i}", i) for i in range(50)))
    found = await asyncio.gather(*(r.get(f"async:{i}") for i in range(50)))
    expect("asyncio", [str(i) for i in range(50)], found)
    await r.aclose()


commands(redis.Redis(port=PORT, decode_responses=True), "default")
commands(redis.Redis(port=PORT, decode_responses=True, protocol=2, client_name="two"), "RESP2")
commands(redis.Redis(port=PORT, decode_responses=True, protocol=3, db=0), "RESP3")
expect("another database", True, "out of range" in error_of(lambda: redis.Redis(port=PORT, db=1).ping()))
asyncio.run(asynchronous())
print(f"{passed} passed, {failed} failed")
sys.exit(failed != 0)
