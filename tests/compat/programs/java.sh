# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
# java.sh -- the JVM: its compiler, and a program of many threads with native memory of its own.
what="-version; javac; 200 threads with direct buffers and Deflater"
packages=default-jdk-headless
commands="java javac"
witnesses="java javac"
speed=quick

version() { java -version 2>&1 | sed -n 's/.*version "\(.*\)".*/\1/p'; }

witness() { java -version && javac -version; }

workload() {
    java -version
    cat >Work.java <<'JAVA'
import java.nio.ByteBuffer;
import java.util.*;
import java.util.concurrent.*;
import java.util.zip.*;

public class Work {
    static long task(int n) throws DataFormatException {
        byte[] data = new byte[20000 + n * 37];
        for (int i = 0; i < data.length; i++) data[i] = (byte) ((i * 31 + n) >> 3);
        CRC32 sum = new CRC32();
        for (int round = 0; round < 6; round++) {
            Deflater deflater = new Deflater(1 + (n + round) % 9);
            deflater.setInput(data);
            deflater.finish();
            byte[] packed = new byte[data.length + 100];
            int length = deflater.deflate(packed);
            deflater.end();
            Inflater inflater = new Inflater();
            inflater.setInput(packed, 0, length);
            byte[] back = new byte[data.length];
            inflater.inflate(back);
            inflater.end();
            if (!Arrays.equals(data, back)) throw new IllegalStateException("task " + n);
            ByteBuffer direct = ByteBuffer.allocateDirect(1000 + n * 64);
            direct.put(back, 0, direct.capacity()).flip();
            sum.update(direct);
        }
        return sum.getValue();
    }

    public static void main(String[] args) throws Exception {
        Map<Integer, Long> results = new ConcurrentSkipListMap<>();
        List<Thread> threads = new ArrayList<>();
        for (int i = 0; i < 200; i++) {
            int n = i;
            Thread thread = new Thread(() -> {
                try {
                    results.put(n, task(n));
                } catch (Exception e) {
                    throw new RuntimeException(e);
                }
            });
            threads.add(thread);
            thread.start();
        }
        for (Thread thread : threads) thread.join();
        System.out.println(results);
        System.gc();
        System.exit(results.size() == 200 ? 3 : 1);
    }
}
JAVA
    javac Work.java
    java -Xmx256m Work || echo "status $?"
}
