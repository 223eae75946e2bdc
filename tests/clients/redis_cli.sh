#!/usr/bin/env bash
# redis-cli and redis-benchmark against a running server:  redis_cli.sh PORT
# Prints "N passed, N failed"; the exit code is non-zero if anything failed. It empties the server.
port=${1:?usage: redis_cli.sh PORT}
passed=0 failed=0

expect() { # expect WHAT EXPECTED ACTUAL
    if [[ "$3" == $2 ]]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAILED %s\n  expected: %s\n  found:    %s\n' "$1" "$2" "$3"
    fi
}

cli() { redis-cli -p "$port" "$@" 2>&1; }

expect flushall OK "$(cli FLUSHALL)"
expect set OK "$(cli SET greeting 'hello world')"
expect get 'hello world' "$(cli GET greeting)"
expect 'get over RESP3' 'hello world' "$(cli -3 GET greeting)"
expect 'null over RESP3' '' "$(cli -3 GET nope)"
expect incr 1 "$(cli INCR counter)"
expect 'wrong type of value' '*value is not an integer*' "$(cli INCR greeting)"
expect ttl 100 "$(cli SET t v EX 100 >/dev/null; cli TTL t)"
expect 'unknown command' "*ERR unknown command 'nosuch', with args beginning with: 'a'*" "$(cli nosuch a)"
expect 'config get over RESP3' '*databases*1*' "$(cli -3 CONFIG GET databases)"
expect interactive '*hello world*' "$(printf 'GET greeting\n' | cli)"
expect 'interactive over RESP3' '*PONG*' "$(printf 'HELLO 3\nPING\n' | cli)"
expect 'command docs' '*summary*' "$(cli COMMAND DOCS GET)"
expect 'info server' '*redis_version:7*' "$(cli INFO server)"
expect scan '*greeting*' "$(cli --scan)"
expect 'scan with a pattern' 'greeting' "$(cli --scan --pattern 'greet*')"
expect bigkeys '*Biggest string found*' "$(cli --bigkeys)"
expect stat '*keys*clients*' "$(timeout 2 stdbuf -oL redis-cli -p "$port" --stat -i 1 2>&1)"
expect pipe '*errors: 0, replies: 1000*' "$(for i in $(seq 1000); do printf 'SET pipe:%s %s\r\n' "$i" "$i"; done | cli --pipe)"
expect dbsize 1003 "$(cli DBSIZE)"
expect 'a value from stdin' OK "$(head -c 1000000 /dev/zero | cli -x SET big)"
expect 'its length' 1000000 "$(cli STRLEN big)"
expect cluster '*cluster support disabled*' "$(cli CLUSTER SLOTS)"
benchmark=$(redis-benchmark -p "$port" -t ping,set,get,incr,mset -n 5000 -r 1000 -P 4 -q 2>&1)
expect benchmark '*SET: *GET: *INCR: *MSET*' "$benchmark"
expect 'benchmark without warnings' 'no warnings' "$(grep -qiE 'warn|error' <<<"$benchmark" && echo "$benchmark" || echo 'no warnings')"
expect 'benchmark over RESP3' '*GET: *' "$(redis-benchmark -p "$port" -3 -t get -n 1000 -q 2>&1)"

echo "$passed passed, $failed failed"
((failed == 0))
