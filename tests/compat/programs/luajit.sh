# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
# luajit.sh -- LuaJIT, whose own allocator wants memory in the lowest 2 GiB or 128 TiB of the address space, and
# which calls malloc, realloc and free from compiled code by its FFI.
what="tables, strings, coroutines; 300k blocks by FFI: malloc, realloc, qsort, free"
packages=luajit
commands=luajit
witnesses='luajit[0-9a-z.-]*'
speed=quick

version() { luajit -v | cut -d ' ' -f 2; }

workload() {
    cat >work.lua <<'LUA'
local t = {}
for i = 1, 300000 do
    t[i] = { i, tostring(i) }
    if i % 3 == 0 then t[i - 1] = nil end
end
local sum = 0
for _, v in pairs(t) do sum = sum + v[1] end
print(sum)
local parts = {}
for i = 1, 50000 do parts[#parts + 1] = string.rep("x", i % 50) end
print(#table.concat(parts))
local step = coroutine.wrap(function() for i = 1, 100000 do coroutine.yield(i) end end)
for _ = 1, 99999 do step() end
print(step())
local ffi = require("ffi")
ffi.cdef [[
void *malloc(size_t); void *calloc(size_t, size_t); void *realloc(void *, size_t); void free(void *);
void qsort(void *, size_t, size_t, int (*)(const int *, const int *));
]]
local blocks = {}
for i = 1, 300000 do
    blocks[i] = ffi.cast("int *", ffi.C.malloc(4 + i % 500))
    blocks[i][0] = i
end
for i = 1, 300000, 2 do ffi.C.free(blocks[i]); blocks[i] = nil end
for i = 2, 300000, 2 do blocks[i] = ffi.cast("int *", ffi.C.realloc(blocks[i], 700)) end
local same = true
for i = 2, 300000, 2 do
    same = same and blocks[i][0] == i
    ffi.C.free(blocks[i])
end
print(same)
local a = ffi.cast("int *", ffi.C.calloc(20000, 4))
for i = 0, 19999 do a[i] = i * 7919 % 20011 end
ffi.C.qsort(a, 20000, 4, function(x, y) return x[0] < y[0] and -1 or x[0] > y[0] and 1 or 0 end)
print(a[0], a[10000], a[19999])
ffi.C.free(a)
print(pcall(string.rep, "x", 2 ^ 40))
os.exit(3)
LUA
    luajit work.lua || echo "status $?"
    luajit -joff work.lua 2>/dev/null | sha256sum || true
}
