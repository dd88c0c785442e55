# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
# postgres.sh -- initdb, a server on a Unix socket, pgbench with a fixed seed, checksums.
# The clients' transactions only add, so with a fixed seed the end state does not depend on the
# order in which they ran; times and the order of the history do, and are not compared. The server
# refuses to be root: root runs it as the user postgres, or as nobody.
what="initdb; pgbench -i, 4 clients with a fixed seed; sorting, hashing, aggregates, vacuum, index"
packages=postgresql
commands="runuser sha256sum"
files=$(echo /usr/lib/postgresql/*/bin/pgbench | tr ' ' '\n' | tail -n 1)
witnesses="initdb postgres pgbench psql"
speed=quick

bin=$(dirname "$files")

version() { "$bin/postgres" --version | cut -d ' ' -f 3; }

witness() {
    local program
    for program in $witnesses; do
        "$bin/$program" --version
    done
}

as_server() {
    if [ "$(id -u)" != 0 ]; then
        "$@"
    elif id postgres >/dev/null 2>&1; then
        runuser -u postgres -- "$@"
    else
        runuser -u nobody -- "$@"
    fi
}

sql() { as_server "$bin/psql" -h "$PWD" -X -q -t -A postgres; }

stop_server() {
    as_server "$bin/pg_ctl" -D "$PWD/data" -m fast -w -t 300 stop >/dev/null || true
}

workload() {
    as_server "$bin/initdb" -D "$PWD/data" --no-sync -A trust -E UTF8 --locale=C.UTF-8 >initdb.out
    grep -c 'Success' initdb.out
    as_server "$bin/pg_ctl" -D "$PWD/data" -w -t 300 -l "$PWD/data/log" start \
        -o "-c listen_addresses= -k $PWD -c fsync=off" >/dev/null
    trap stop_server EXIT
    as_server "$bin/pgbench" -h "$PWD" -i -q -s 2 postgres 2>/dev/null
    as_server "$bin/pgbench" -h "$PWD" -n -c 4 -j 2 -t 400 --random-seed=42 postgres >pgbench.out
    grep 'number of transactions actually processed' pgbench.out
    grep 'number of failed' pgbench.out
    sql <<'SQL'
SELECT count(*), sum(abalance), md5(string_agg(aid || ':' || abalance, ',' ORDER BY aid))
    FROM pgbench_accounts;
SELECT md5(string_agg(tid || ':' || tbalance, ',' ORDER BY tid)) FROM pgbench_tellers;
SELECT count(*), sum(delta) FROM pgbench_history;
CREATE TABLE t AS SELECT i, md5(i::text) AS h, repeat('x', i % 300) AS s
    FROM generate_series(1, 150000) i;
SET work_mem = '64MB';
SELECT md5(string_agg(h, '' ORDER BY h DESC)) FROM t;
SELECT count(*), md5(string_agg(k, ',' ORDER BY k))
    FROM (SELECT DISTINCT substr(h, 1, 3) AS k FROM t) d;
SELECT count(*) FROM t a JOIN t b ON a.h = b.h WHERE a.i % 3 = 0;
CREATE INDEX ON t (h);
DELETE FROM t WHERE i % 5 <> 0;
VACUUM FULL t;
SELECT count(*), sum(length(s)) FROM t;
SELECT 1 / 0;
SQL
    stop_server
    trap - EXIT
    grep -cE 'PANIC|was terminated by signal' data/log || true
}
