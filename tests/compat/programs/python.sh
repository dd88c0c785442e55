# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
# python.sh -- CPython's own test suite; what is compared is the result of each single test.
# The tests wait much and compute little, so they run side by side. The quick run takes only the
# pools and queues of test_multiprocessing_fork, the full run all of it and more modules; as a benchmark it
# takes those that compute. Tests that fail when a process or a thread gets no CPU for a second or two say
# nothing of malloc, and are left out.
what="its test suite: test_dict, test_json, test_threading, test_subprocess, and of \
test_multiprocessing_fork the pools, queues and shared memory"
python=$(readlink /usr/bin/python3 || echo python3)
packages="python3 lib$python-testsuite"
commands="python3"
files=/usr/lib/$python/test/test_dict.py
witnesses='python3[0-9.]*'
speed=quick
limit_seconds=1000
if [ "${SPEED:-}" = full ]; then
    what="its test suite: test_dict, test_json, test_threading, test_subprocess, \
test_multiprocessing_fork and 12 more modules"
fi

version() { python3 -c 'import platform; print(platform.python_version())'; }

# suite NAME REGRTEST-ARGS...: leaves NAME.xml, and shows what the suite said when it failed.
suite() {
    local name=$1
    shift
    mkdir "tmp-$name"
    if ! python3 -m test --timeout 300 --tempdir "$PWD/tmp-$name" --junit-xml "$name.xml" "$@" \
        "${ignored[@]/#/-i}" >"$name.log" 2>&1; then
        tail -n 60 "$name.log" >&2
        return 1
    fi
}

results() {
    python3 - "$@" <<'PY'
import sys, xml.etree.ElementTree as tree
lines = []
for name in sys.argv[1:]:
    for case in tree.parse(name).iter("testcase"):
        outcome = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        lines.append(f"{case.get('name')} {' '.join(outcome) or case.get('result')}")
print("\n".join(sorted(lines)))
PY
}

# They measure how long something took, or count on another thread having run after 0.1 to 3 s; and test_terminate
# hangs now and then on a busy machine (the pool's lock is with a worker that waits for ever).
ignored=(LockTests PyRLockTests CRLockTests EventTests ConditionAsRLockTests ConditionTests SemaphoreTests
    BoundedSemaphoreTests BarrierTests
    test_run_with_shell_timeout_and_capture_output test_check_output_timeout test_wait_timeout
    test_zombie_fast_process_del test_leak_fast_process_del_killed
    '*TestPool.test_terminate' test_async_timeout test_release_task_refs test_pool_worker_lifetime
    '*TestQueue.test_put' '*TestQueue.test_get' '*TestQueue.test_fork' test_no_import_lock_contention
    test_queue_feeder_donot_stop_onexc test_queue_feeder_on_queue_feeder_error)

workload() {
    local more=()
    case $SPEED in
    bench*)
        [ "$SPEED" != bench ] || more=(test_pickle)
        suite main test_json test_dict test_list test_re "${more[@]}"
        results main.xml
        return
        ;;
    esac
    local fork=(-m '*WithProcessesTestPool*' -m '*WithProcessesTestQueue*' -m '*SharedMemory*')
    # shellcheck disable=SC2153  # SPEED comes from run.sh
    if [ "$SPEED" = full ]; then
        fork=()
        more=(test_gc test_list test_re test_pickle test_io test_mmap test_ctypes test_fork1
            test_os test_posix test_zlib test_ssl)
    fi
    suite fork "${fork[@]}" test_multiprocessing_fork &
    local background=$!
    suite main -j 4 test_subprocess test_threading test_json test_dict "${more[@]}"
    wait "$background"
    results main.xml fork.xml
}
