//! All commands, one row each. COMMAND, the dispatcher and commandstats all read this table.
//!
//! A row: name, arity (name included; negative is "at least"), flags, keys (first, last, step), group, since
//! which Redis, what it does, and its handler. `.rmw()` marks the ones that need the old value of their first
//! key, `.barrier()` those that change how replies are written, `.delete()`, `.scan()` and `.other()` as what it is measured.

use super::command::Flag::{
    Admin, Blocking, Denyoom, Fast, Loading, NoAuth, Noscript, Readonly, Stale, Write,
};
use super::command::{Command, Flag, Handler, Handler::Now, Handler::Read, Keys};
use super::{
    admin, client_command, command_command, config_command, connection_commands as connection, durable,
    expire, incr, info, keys, latency_command, memory_command, scan, set, slowlog_command, strings,
};
use crate::latency::Class;

/// A handler that may wait: an async function, boxed.
macro_rules! later {
    ($handler:path) => {
        Handler::Later(|session, args, reply| Box::pin($handler(session, args, reply)))
    };
}

#[allow(clippy::too_many_arguments)]
const fn row(
    name: &'static str,
    arity: i32,
    flags: &'static [Flag],
    keys: Keys,
    group: &'static str,
    since: &'static str,
    summary: &'static str,
    handler: Handler,
) -> Command {
    let class = class_of(flags);
    Command {
        name,
        arity,
        flags,
        keys,
        barrier: false,
        prefetch: false,
        class,
        group,
        since,
        summary,
        handler,
    }
}

/// As what a command with these flags is measured, if nothing else is said.
const fn class_of(flags: &[Flag]) -> Class {
    let mut at = 0;
    while at < flags.len() {
        match flags[at] {
            Write => return Class::Write,
            Readonly => return Class::Read,
            _ => at += 1,
        }
    }
    Class::Other
}

impl Command {
    const fn delete(mut self) -> Command {
        self.class = Class::Delete;
        self
    }

    const fn other(mut self) -> Command {
        self.class = Class::Other;
        self
    }

    const fn scan(mut self) -> Command {
        self.class = Class::Scan;
        self
    }

    const fn rmw(mut self) -> Command {
        self.prefetch = true;
        self
    }

    const fn barrier(mut self) -> Command {
        self.barrier = true;
        self
    }
}

const NONE: Keys = Keys(0, 0, 0);
const ONE: Keys = Keys(1, 1, 1);
const ALL: Keys = Keys(1, -1, 1);
const PAIRS: Keys = Keys(1, -1, 2);

const GET: &[Flag] = &[Readonly, Fast];
const SLOW_GET: &[Flag] = &[Readonly];
const PUT: &[Flag] = &[Write, Denyoom];
const FAST_PUT: &[Flag] = &[Write, Denyoom, Fast];
const CHANGE: &[Flag] = &[Write, Fast];
const TALK: &[Flag] = &[Noscript, Loading, Stale, Fast, NoAuth];
const SERVE: &[Flag] = &[Admin, Noscript, Loading, Stale];

/// See the head of this file.
#[rustfmt::skip]
pub(crate) static COMMANDS: &[Command] = &[
    row("get", 2, GET, ONE, "string", "1.0.0",
        "Returns the string value of a key.", Read(strings::get)),
    row("set", -3, PUT, ONE, "string", "1.0.0",
        "Sets the string value of a key, ignoring its type. The key is created if it doesn't exist.", later!(set::set)),
    row("mget", -2, GET, ALL, "string", "1.0.0",
        "Atomically returns the string values of one or more keys.", Read(strings::mget)),
    row("strlen", 2, GET, ONE, "string", "2.2.0",
        "Returns the length of a string value.", Read(strings::strlen)),
    row("getrange", 4, SLOW_GET, ONE, "string", "2.4.0",
        "Returns a substring of the string stored at a key.", Read(strings::getrange)),
    row("substr", 4, SLOW_GET, ONE, "string", "1.0.0",
        "Returns a substring from a string value.", Read(strings::getrange)),
    row("append", 3, FAST_PUT, ONE, "string", "2.0.0",
        "Appends a string to the value of a key. Creates the key if it doesn't exist.", later!(strings::append)).rmw(),
    row("setrange", 4, PUT, ONE, "string", "2.2.0",
        "Overwrites a part of a string value with another by an offset.", later!(strings::setrange)).rmw(),
    row("setnx", 3, FAST_PUT, ONE, "string", "1.0.0",
        "Set the string value of a key only when the key doesn't exist.", later!(set::setnx)),
    row("setex", 4, PUT, ONE, "string", "2.0.0",
        "Sets the string value and expiration time of a key.", later!(set::setex)),
    row("psetex", 4, PUT, ONE, "string", "2.6.0",
        "Sets both string value and expiration time in milliseconds of a key.", later!(set::psetex)),
    row("getset", 3, FAST_PUT, ONE, "string", "1.0.0",
        "Returns the previous string value of a key after setting it to a new value.", later!(set::getset)).rmw(),
    row("getdel", 2, CHANGE, ONE, "string", "6.2.0",
        "Returns the string value of a key after deleting the key.", later!(set::getdel)).rmw().delete(),
    row("getex", -2, CHANGE, ONE, "string", "6.2.0",
        "Returns the string value of a key after setting its expiration time.", later!(set::getex)).rmw(),
    row("mset", -3, PUT, PAIRS, "string", "1.0.1",
        "Atomically creates or modifies the string values of one or more keys.", later!(set::mset)),
    row("msetnx", -3, PUT, PAIRS, "string", "1.0.1",
        "Atomically modifies the string values of one or more keys only when all keys don't exist.", later!(set::msetnx)),
    row("incr", 2, FAST_PUT, ONE, "string", "1.0.0",
        "Increments the integer value of a key by one. Uses 0 as initial value if the key doesn't exist.", later!(incr::incr)).rmw(),
    row("decr", 2, FAST_PUT, ONE, "string", "1.0.0",
        "Decrements the integer value of a key by one. Uses 0 as initial value if the key doesn't exist.", later!(incr::decr)).rmw(),
    row("incrby", 3, FAST_PUT, ONE, "string", "1.0.0",
        "Increments the integer value of a key by a number. Uses 0 as initial value if the key doesn't exist.", later!(incr::incrby)).rmw(),
    row("decrby", 3, FAST_PUT, ONE, "string", "1.0.0",
        "Decrements a number from the integer value of a key. Uses 0 as initial value if the key doesn't exist.", later!(incr::decrby)).rmw(),
    row("incrbyfloat", 3, FAST_PUT, ONE, "string", "2.6.0",
        "Increment the floating point value of a key by a number. Uses 0 as initial value if the key doesn't exist.", later!(incr::incrbyfloat)).rmw(),

    row("del", -2, &[Write], ALL, "generic", "1.0.0",
        "Deletes one or more keys.", later!(keys::del)).delete(),
    row("unlink", -2, CHANGE, ALL, "generic", "4.0.0",
        "Asynchronously deletes one or more keys.", later!(keys::del)).delete(),
    row("exists", -2, GET, ALL, "generic", "1.0.0",
        "Determines whether one or more keys exist.", Read(keys::exists)),
    row("touch", -2, GET, ALL, "generic", "3.2.1",
        "Returns the number of existing keys out of those specified after updating the time they were last accessed.", Read(keys::exists)),
    row("type", 2, GET, ONE, "generic", "1.0.0",
        "Determines the type of value stored at a key.", Read(keys::kind)),
    row("randomkey", 1, SLOW_GET, NONE, "generic", "1.0.0",
        "Returns a random key name from the database.", later!(scan::randomkey)).scan(),
    row("scan", -2, SLOW_GET, NONE, "generic", "2.8.0",
        "Iterates over the key names in the database.", later!(scan::scan)).scan(),
    row("keys", 2, SLOW_GET, NONE, "generic", "1.0.0",
        "Returns all key names that match a pattern.", later!(scan::keys)).scan(),
    row("expire", -3, CHANGE, ONE, "generic", "1.0.0",
        "Sets the expiration time of a key in seconds.", later!(expire::expire)).rmw(),
    row("pexpire", -3, CHANGE, ONE, "generic", "2.6.0",
        "Sets the expiration time of a key in milliseconds.", later!(expire::pexpire)).rmw(),
    row("expireat", -3, CHANGE, ONE, "generic", "1.2.0",
        "Sets the expiration time of a key to a Unix timestamp.", later!(expire::expireat)).rmw(),
    row("pexpireat", -3, CHANGE, ONE, "generic", "2.6.0",
        "Sets the expiration time of a key to a Unix milliseconds timestamp.", later!(expire::pexpireat)).rmw(),
    row("ttl", 2, GET, ONE, "generic", "1.0.0",
        "Returns the expiration time in seconds of a key.", Read(expire::ttl)),
    row("pttl", 2, GET, ONE, "generic", "2.6.0",
        "Returns the expiration time in milliseconds of a key.", Read(expire::pttl)),
    row("expiretime", 2, GET, ONE, "generic", "7.0.0",
        "Returns the expiration time of a key as a Unix timestamp.", Read(expire::expiretime)),
    row("pexpiretime", 2, GET, ONE, "generic", "7.0.0",
        "Returns the expiration time of a key as a Unix milliseconds timestamp.", Read(expire::pexpiretime)),
    row("persist", 2, CHANGE, ONE, "generic", "2.2.0",
        "Removes the expiration time of a key.", later!(expire::persist)).rmw(),
    row("wait", 3, &[Blocking], NONE, "generic", "3.0.0",
        "Blocks until the asynchronous replication of all preceding write commands sent by the connection is completed.", later!(durable::wait)),
    row("waitaof", 4, &[Blocking], NONE, "generic", "7.2.0",
        "Blocks until all of the preceding write commands sent by the connection are written to the append-only file of the master and/or replicas.", later!(durable::waitaof)),

    row("ping", -1, &[Fast], NONE, "connection", "1.0.0",
        "Returns the server's liveliness response.", Now(connection::ping)),
    row("echo", 2, &[Loading, Stale, Fast], NONE, "connection", "1.0.0",
        "Returns the given string.", Now(connection::echo)),
    row("hello", -1, TALK, NONE, "connection", "6.0.0",
        "Handshakes with the Redis server.", Now(connection::hello)).barrier(),
    row("auth", -2, TALK, NONE, "connection", "1.0.0",
        "Authenticates the connection.", Now(connection::auth)),
    row("select", 2, &[Loading, Stale, Fast], NONE, "connection", "1.0.0",
        "Changes the selected database.", Now(connection::select)),
    row("quit", -1, TALK, NONE, "connection", "1.0.0",
        "Closes the connection.", Now(connection::quit)),
    row("reset", 1, TALK, NONE, "connection", "6.2.0",
        "Resets the connection.", Now(connection::reset)).barrier(),
    row("client", -2, &[Noscript, Loading, Stale], NONE, "connection", "2.4.0",
        "A container for client connection commands.", Now(client_command::client)),

    row("command", -1, &[Loading, Stale], NONE, "server", "2.8.13",
        "Returns detailed information about all commands.", Now(command_command::command)),
    row("config", -2, SERVE, NONE, "server", "2.0.0",
        "A container for server configuration commands.", Now(config_command::config)),
    row("info", -1, &[Loading, Stale], NONE, "server", "1.0.0",
        "Returns information and statistics about the server.", Now(info::info)),
    row("latency", -2, SERVE, NONE, "server", "2.8.13",
        "A container for latency diagnostics commands.", Now(latency_command::latency)),
    row("memory", -2, &[Readonly, Loading, Stale], NONE, "server", "4.0.0",
        "A container for memory diagnostics commands.", Now(memory_command::memory)).other(),
    row("slowlog", -2, SERVE, NONE, "server", "2.2.12",
        "A container for slow log commands.", Now(slowlog_command::slowlog)),
    row("dbsize", 1, GET, NONE, "server", "1.0.0",
        "Returns the number of keys in the database.", Now(scan::dbsize)),
    row("flushall", -1, &[Write], NONE, "server", "1.0.0",
        "Removes all keys from all databases.", later!(scan::flush)).delete(),
    row("flushdb", -1, &[Write], NONE, "server", "1.0.0",
        "Remove all keys from the current database.", later!(scan::flush)).delete(),
    row("save", 1, &[Admin, Noscript], NONE, "server", "1.0.0",
        "Writes a checkpoint and waits for it.", later!(durable::save)),
    row("bgsave", -1, &[Admin, Noscript], NONE, "server", "1.0.0",
        "Writes a checkpoint in the background.", Now(durable::bgsave)),
    row("lastsave", 1, &[Loading, Stale, Fast], NONE, "server", "1.0.0",
        "Returns the Unix timestamp of the last checkpoint.", Now(durable::lastsave)),
    row("time", 1, &[Loading, Stale, Fast], NONE, "server", "2.6.0",
        "Returns the server time.", Now(admin::time)),
    row("shutdown", -1, SERVE, NONE, "server", "1.0.0",
        "Stops the server after everything acknowledged is on the device.", Now(admin::shutdown)),
    row("cluster", -2, &[Stale], NONE, "cluster", "3.0.0",
        "A container for cluster commands.", Now(admin::cluster)),
];
