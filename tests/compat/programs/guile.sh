# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
# guile.sh -- Guile, whose collector (Boehm's) stops the threads of the program by signals of its own, and finds
# pointers in stacks and data as besom's scans do.
what="recursion, hash table of 100k, bignums, futures and 8 threads under collection"
packages=guile-3.0
commands=guile
witnesses='guile[0-9.]*'
speed=quick

version() { guile -c '(display (version))'; }

workload() {
    cat >work.scm <<'SCHEME'
(use-modules (ice-9 threads) (ice-9 futures) (srfi srfi-1) (rnrs bytevectors))
(define (show x) (display x) (newline))
(define (fib n) (if (< n 2) n (+ (fib (- n 1)) (fib (- n 2)))))
(show (fib 24))
(define table (make-hash-table))
(do ((i 0 (+ i 1))) ((= i 100000)) (hash-set! table i (number->string i)))
(show (hash-count (const #t) table))
(show (string-length (number->string (expt 7 5000))))
(show (apply + (par-map (lambda (x) (length (iota (* x 500)))) (iota 40))))
(define threads
  (map (lambda (n)
         (call-with-new-thread
          (lambda ()
            (let loop ((i 0) (sum 0))
              (if (= i 3000) sum
                  (loop (+ i 1) (+ sum (bytevector-length (make-bytevector (* n (modulo i 50)) 1)))))))))
       (iota 8)))
(gc)
(show (map join-thread threads))
(show (catch 'misc-error (lambda () (error "no" 1)) (lambda (key . rest) key)))
(exit 7)
SCHEME
    guile --no-auto-compile work.scm || echo "status $?"
}
