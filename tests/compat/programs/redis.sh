# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
# redis.sh -- a server of its own on a Unix socket: redis-benchmark, 200k keys of mixed types,
# expiry of most of them, a snapshot by a forked child, and the digest of the whole data set.
# Without random keys redis-benchmark leaves the same data each time; its own figures are not
# compared. Redis 8 calls jemalloc by names of its own as well, and besom is put before the rest of it;
# what bench/run compares serves these names too: MALLOCX is tools/mallocx.c.
what="redis-server on a Unix socket: redis-benchmark, 200k mixed keys, BGSAVE, DEBUG RELOAD, digest"
packages="redis-server redis-tools"
commands="redis-server redis-cli redis-benchmark"
witnesses="redis-server redis-benchmark"
speed=quick

version() { redis-server --version | sed 's/.*v=\([^ ]*\).*/\1/'; }

witness() { redis-server --version && redis-benchmark --version; }

ask() { redis-cli -s "$PWD/redis.sock" "$@"; }

wait_until_up() {
    local tries
    for tries in $(seq 1200); do
        [ "$(ask ping 2>/dev/null)" != PONG ] || return 0
        sleep 0.1
    done
    echo "redis-server did not come up after $tries tries" >&2
    return 1
}

wait_for_snapshot() {
    local tries
    for tries in $(seq 1200); do
        if ask info persistence | grep -q '^rdb_bgsave_in_progress:0'; then
            ask info persistence | grep '^rdb_last_bgsave_status'
            return 0
        fi
        sleep 0.1
    done
    echo "BGSAVE did not end after $tries tries" >&2
    return 1
}

workload() {
    LD_PRELOAD="${LD_PRELOAD-}${MALLOCX:+:$MALLOCX}" redis-server --port 0 --unixsocket "$PWD/redis.sock" --save '' --appendonly no --dir "$PWD" \
        --enable-debug-command yes --logfile "$PWD/log" --io-threads 2 &
    wait_until_up
    redis-benchmark -s "$PWD/redis.sock" -q -c 20 -P 8 -n 24000 -d 100 \
        -t set,get,incr,lpush,rpush,lpop,rpop,sadd,hset,zadd,mset >benchmark.out
    grep -c 'requests per second' benchmark.out
    ask debug digest
    ask eval 'for i = 1, 200000 do
            local k = "k:" .. i
            local v = string.rep(tostring(i), 1 + (i * 7919) % 40)
            if i % 10 == 0 then redis.call("hset", k, "a", v, "b", i, "c", v .. v)
            elseif i % 10 == 1 then redis.call("rpush", k, v, i, v .. i)
            elseif i % 10 == 2 then redis.call("zadd", k, i, v, i + 1, v .. "x")
            else redis.call("set", k, v) end
            if i % 500 == 0 then redis.call("append", "long", v) end
        end return redis.call("dbsize")' 0
    ask eval 'local n = 0
        for i = 1, 200000 do if i % 5 ~= 0 then n = n + redis.call("unlink", "k:" .. i) end end
        return n' 0
    ask bgsave
    wait_for_snapshot
    ask debug digest
    ask debug reload
    ask debug digest
    ask memory purge
    ask shutdown nosave
    wait
    grep -c 'bye bye' log
}
