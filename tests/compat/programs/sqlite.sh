# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
# sqlite.sh -- a database of 100k rows: indices, queries, updates, deletion, vacuum, integrity.
what="100k rows, indices, joins, update, delete, vacuum, integrity_check, dump"
packages=sqlite3
commands="sqlite3 sha256sum"
witnesses=sqlite3
speed=quick

version() { sqlite3 --version | cut -d ' ' -f 1; }

workload() {
    sqlite3 test.db >queries.out <<'SQL'
PRAGMA synchronous=OFF;
CREATE TABLE t(id INTEGER PRIMARY KEY, a INTEGER, b TEXT, c BLOB);
CREATE TABLE u(a INTEGER, note TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
INSERT INTO t
    SELECT i, (i * 7919) % 10007, printf('row %d %s', i, hex(i * i)), zeroblob(i % 300) FROM n;
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 10006)
INSERT INTO u SELECT i, 'note ' || i FROM n;
CREATE INDEX t_a ON t(a);
CREATE INDEX t_b ON t(b, a);
SELECT count(*), sum(a), min(b), max(b) FROM t;
SELECT t.a % 10, count(*), group_concat(u.note) FROM t JOIN u ON u.a = t.a WHERE t.id % 97 = 0
    GROUP BY 1 ORDER BY 1;
SELECT b FROM t WHERE b LIKE '%FF%' ORDER BY c, b DESC LIMIT 20;
UPDATE t SET b = b || ' updated', c = zeroblob(500) WHERE a % 5 = 0;
DELETE FROM t WHERE id % 3 = 0;
VACUUM;
PRAGMA integrity_check;
SELECT count(*), sum(length(b)), sum(length(c)) FROM t;
SQL
    cat queries.out
    sqlite3 test.db .dump | sha256sum
    sqlite3 test.db 'SELECT * FROM missing' || echo "status $?"
}
