# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
# clisp.sh -- CLISP, which maps its heap at fixed addresses and says so when something lies there; its collector
# protects pages and handles the faults.
what="recursion, hash table of 20k, bignums, sorting, arrays under collection; interpreted and compiled"
packages=clisp
commands=clisp
witnesses=lisp.run
speed=quick

version() { clisp --version | sed -n '1s/^GNU CLISP \([0-9.]*\).*/\1/p'; }

workload() {
    cat >work.lisp <<'LISP'
(defun fib (n) (if (< n 2) n (+ (fib (- n 1)) (fib (- n 2)))))
(print (fib 16))
(let ((h (make-hash-table :test 'equal)))
  (dotimes (i 20000) (setf (gethash (format nil "~a" i) h) (list i i)))
  (print (hash-table-count h)))
(print (length (write-to-string (expt 7 4000))))
(let ((l nil)) (dotimes (i 30000) (push (mod (* i 7919) 10007) l)) (print (nth 777 (sort l #'<))))
(print (let ((s 0)) (dotimes (i 200 s) (incf s (aref (make-array 20000 :initial-element i) 7)))))
(gc)
(print (handler-case (error "no") (error (c) (princ-to-string c))))
(terpri)
(exit 7)
LISP
    clisp -q -norc work.lisp || echo "status $?"
    clisp -q -norc -C work.lisp || echo "status $?"
}
