# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
# php.sh -- php with its extensions, which it loads with RTLD_DEEPBIND; with its own allocator, and without.
what="arrays, JSON, regular expressions, zlib, generators; with Zend's allocator and without"
packages=php-cli
commands=php
witnesses='php[0-9.]*'
speed=quick

version() { php -r 'echo PHP_VERSION, "\n";'; }

workload() {
    cat >work.php <<'PHP'
<?php
$table = [];
for ($i = 0; $i < 200000; $i++) {
    $table["key$i"] = str_repeat("x", $i % 40);
}
ksort($table);
echo count($table), " ", md5(serialize(array_slice($table, 0, 5000))), "\n";
for ($i = 0; $i < 100; $i++) {
    $text = json_encode(range(0, 4000));
    $list = json_decode($text, true);
}
echo strlen($text), " ", array_sum($list), "\n";
echo preg_replace('/(\d+)/', '<$1>', str_repeat("a1b22c333", 3)), "\n";
$squares = (function () { for ($i = 0; $i < 1000; $i++) yield $i * $i; })();
echo array_sum(iterator_to_array($squares)), "\n";
echo md5(gzcompress(str_repeat("hello", 100000))), " ", hash("sha256", serialize($table)), "\n";
$libc = FFI::cdef("char *strdup(const char *); void free(void *);");
for ($i = 0; $i < 1000; $i++) {
    $copy = $libc->strdup(str_repeat("c", $i));
    $libc->free($copy);
}
unset($table, $libc);
echo gc_collect_cycles(), "\n";
ini_set("memory_limit", "64M");
$large = str_repeat("a", 100000000);
PHP
    echo "extensions: $(php -m | sha256sum)"
    php work.php || echo "status $?"
    USE_ZEND_ALLOC=0 php work.php | sha256sum
}
