#!/usr/bin/env python3
"""Generated faults in the Redis library: each must be caught by the model run or by the tests on real Redis.

    scripts/lua-mutants.py [--sample N] [--seed S] [--out FILE] [--list]

Faults are made from the assembled source, line by line: every write dropped, every comparison turned round, every guard
removed. For each, the model run (few operations, stops at the first divergence) and then the Redis tests run against the
changed library. Prints what survived; exit code 1 when less than 95 % were caught. A full run takes hours, --sample a part
of one, chosen by --seed.
"""
import argparse, glob, json, os, random, re, subprocess, sys, tempfile, time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
WRITES = r"HSET|HSETNX|HDEL|HINCRBY|ZADD|ZREM|ZREMRANGEBYRANK|ZPOPMIN|RPUSH|DEL|SADD|SREM|SET|UNLINK|PUBLISH"
DROPPED = re.compile(r"^\s*(call\('(%s)'|write\('|lk\.push2\(|push2\(|lk\.count\(|set\(ctx|unset\(ctx)" % WRITES)
TURNED = {" < ": " >= ", " > ": " <= ", " <= ": " > ", " >= ": " < ", " == ": " ~= ", " ~= ": " == "}
GUARD = re.compile(r"^(\s*(?:else)?if )(.+)( then)$")


def mutants(source):
    """(line number from 1, kind, changed source) of every fault."""
    lines, found = source.split("\n"), []

    def add(at, kind, line):
        found.append((at + 1, kind, lines[at].strip(), "\n".join(lines[:at] + [line] + lines[at + 1:])))

    for at, line in enumerate(lines):
        if line.strip().startswith("--"):
            continue
        if DROPPED.match(line) and line.count("(") == line.count(")"):
            add(at, "dropped", "")
        for old, new in TURNED.items():
            start = line.find(old)
            while start >= 0:
                add(at, "turned" + old.rstrip(), line[:start] + new + line[start + len(old):])
                start = line.find(old, start + 1)
        guard = GUARD.match(line)
        if guard:
            add(at, "guard removed", guard.group(1) + "false" + guard.group(3))
    return found


def run(command, seconds, **env):
    """Whether the command succeeded within its time."""
    try:
        done = subprocess.run(command, cwd=os.path.join(ROOT, "queue"), env={**os.environ, "RUST_BACKTRACE": "0", **env},
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=seconds)
        return done.returncode == 0
    except subprocess.TimeoutExpired:
        return False


def binaries():
    """The two test programs."""
    out = subprocess.run(["cargo", "test", "--locked", "-p", "lanekeeper-queue", "--no-run", "--message-format=json"],
                         cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = {}
    for line in out.splitlines():
        message = json.loads(line)
        if message.get("executable"):
            found[message["target"]["name"]] = message["executable"]
    return found["model"], found["redis"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, help="only so many, chosen at random")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", help="where the survivors go, as JSON")
    parser.add_argument("--list", action="store_true", help="only list the faults")
    args = parser.parse_args()
    model, redis = binaries()
    with tempfile.TemporaryDirectory() as folder:
        dump = os.path.join(folder, "library.lua")
        run([model], 120, LANEKEEPER_LIBRARY_DUMP=dump, LANEKEEPER_MODEL_OPS="1")
        with open(dump) as file:
            source = file.read()
        found = mutants(source)
        print(f"{len(found)} faults can be made", flush=True)
        if args.sample:
            found = sorted(random.Random(args.seed).sample(found, min(args.sample, len(found))), key=lambda one: one[0])
        if args.list:
            for line, kind, text, _ in found:
                print(f"{line}: {kind}: {text}")
            return 0
        survivors, started, changed = [], time.time(), os.path.join(folder, "changed.lua")
        for count, (line, kind, text, mutant) in enumerate(found, 1):
            with open(changed, "w") as file:
                file.write(mutant)
            caught = not run([model], 120, LANEKEEPER_LIBRARY_FILE=changed, LANEKEEPER_MODEL_OPS="3000",
                             LANEKEEPER_MODEL_SEED="1", LANEKEEPER_MODEL_SHRINK="0") \
                or not run([redis, "-q"], 180, LANEKEEPER_LIBRARY_FILE=changed)
            if not caught:
                survivors.append({"line": line, "kind": kind, "text": text})
                print(f"SURVIVED {line}: {kind}: {text}", flush=True)
            if count % 20 == 0 or count == len(found):
                print(f"{count} of {len(found)}, {len(survivors)} survived, {time.time() - started:.0f} s", flush=True)
        share = 1 - len(survivors) / max(1, len(found))
        print(f"{share:.1%} of {len(found)} faults were caught (seed {args.seed})")
        if args.out:
            with open(args.out, "w") as file:
                json.dump({"faults": len(found), "seed": args.seed, "survivors": survivors}, file, indent=1)
        return 0 if share >= 0.95 else 1


if __name__ == "__main__":
    sys.exit(main())
