# SPDX-License-Identifier: MIT
"""churn.py SECONDS -- a Python program that works through documents and keeps a few of them.

Run by bench/rss with PYTHONMALLOC=malloc, so that every object is a block of the allocator's. Each
round parses a few thousand JSON documents into dicts, lists and strings, builds an index over
them, keeps one document in 40 for good, and drops the rest. Says "idle" at the end and sleeps.
"""
import gc
import json
import random
import sys
import time

ROUNDS, DOCUMENTS, KEEP_EVERY = 5, 20000, 40


def document(source, number):
    fields = {f"field{n}": source.random() for n in range(source.randrange(5, 30))}
    tags = [f"tag-{source.randrange(1 << 30)}" for _ in range(source.randrange(1, 20))]
    text = "".join(chr(97 + source.randrange(26)) for _ in range(source.randrange(20, 200)))
    return json.dumps({"id": number, "fields": fields, "tags": tags, "text": text * 3,
                       "items": [{"key": n, "value": str(n) * 5} for n in range(10)]})


def main():
    source = random.Random(42)
    texts = [document(source, number) for number in range(500)]
    kept = []
    for _ in range(ROUNDS):
        parsed = [json.loads(source.choice(texts)) for _ in range(DOCUMENTS)]
        index = {}
        for entry in parsed:
            for tag in entry["tags"]:
                index.setdefault(tag, []).append(entry)
        kept.extend(parsed[::KEEP_EVERY])
        source.shuffle(parsed)
        while parsed:
            parsed.pop()
        del index
    gc.collect()
    print("idle", flush=True)
    time.sleep(float(sys.argv[1]))
    return len(kept)


main()
