# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
# node.sh -- JSON, buffers, compression, worker threads and child processes in node.
what="JSON round trip, buffers, zlib, 8 worker_threads, child processes"
packages=nodejs
commands=node
witnesses=node
speed=quick

version() { node --version; }

workload() {
    cat >work.js <<'JS'
const { Worker, isMainThread, parentPort, workerData } = require("worker_threads");
const { execFileSync } = require("child_process");
const crypto = require("crypto");
const zlib = require("zlib");
const md5 = (data) => crypto.createHash("md5").update(data).digest("hex");

function churn(n) {
  const kept = [];
  for (let i = 0; i < 4000; i++) {
    const buffer = Buffer.allocUnsafeSlow(16 + ((i * 7919 + n) % 30000)).fill(i & 255);
    if (i % 5 === 0) kept.push(buffer);
    if (kept.length > 200) kept.splice(0, 150);
  }
  return md5(Buffer.concat(kept));
}

async function main() {
  const item = (_, i) => ({ id: i, name: "n" + i, list: [i, i * 2] });
  const data = Array.from({ length: 150000 }, item);
  const text = JSON.stringify(data);
  console.log(text.length, md5(text), md5(JSON.stringify(JSON.parse(text))));
  const packed = zlib.gzipSync(text);
  console.log(md5(zlib.gunzipSync(packed)), md5(zlib.brotliCompressSync(text.slice(0, 500000))));
  const work = (_, n) => new Promise((done, fail) => {
    const worker = new Worker(__filename, { workerData: n });
    worker.on("message", done);
    worker.on("error", fail);
  });
  const results = await Promise.all(Array.from({ length: 8 }, work));
  console.log(results.join("\n"));
  for (let n = 0; n < 3; n++) {
    const script = `"x".repeat(100000).length + ${n}`;
    console.log(execFileSync(process.execPath, ["-p", script]).toString());
  }
  console.error("the end");
  process.exitCode = 7;
}

if (isMainThread) main(); else parentPort.postMessage(`${workerData} ${churn(workerData)}`);
JS
    node work.js || echo "status $?"
}
