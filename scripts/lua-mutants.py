#!/usr/bin/env python3
"""Generated faults in the Redis library: each must be caught by the model run or by the tests on real Redis.

    scripts/lua-mutants.py [--sample N] [--seed S] [--file NAME] [--jobs N] [--out FILE] [--again] [--known] [--list]

For every fault (see lua_faults.py) the changed library goes through stages, the likeliest to catch it first: some operations of
the model, the Redis tests that caught most faults of the file so far, those of its modules, all others, many operations of
the model. The first failing test ends it; a Redis test that failed must fail once more by itself. A fault with which the library does not load is invalid and counts
for nothing, and so do the few that lua_faults.HARMLESS lists.

Faults are played in an order chosen by --seed, so that any first part of a run is a random sample and a larger --sample goes on
where a smaller one ended. --out FILE gets one JSON object a line as each fault is judged; a run with a FILE that is there
leaves out what stands in it, unless the fault's file has changed since, or it survived unexplained and --again is given.
lua-survivors.json says of survivors why they harm nobody; they count as survivors all the same, with --known without being
played: a survivor takes as long as a hundred that are caught. Exit code 1 when less than 95 % were caught.
"""
import argparse, collections, concurrent.futures, glob, hashlib, json, os, random, select, shutil, signal, socket, subprocess, sys, \
    tempfile, threading, time

import lua_faults

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROFILE = ["--profile", "mutants"]
THREADS = "6"
# Operations of the first model run and of the last, and their seed.
MODEL_FIRST, MODEL_LAST, MODEL_SEED = 600, 4000, 1
# Tests that are tried first: so many of those that caught most faults of the same file, and of those that caught most of all.
KILLERS_OF_FILE, KILLERS_OF_ALL = 12, 6
# How much longer than with the unchanged library a stage may take, and s on top: the machine may be busy.
TIMES, EXTRA = 6, 20
# Modules of queue/tests/redis that belong to a file, besides the one of its own name.
MODULES = {
    "admit": "clock endings enqueue keys refusals grouping backlog", "base": "clock enqueue damage exact", "by_id": "cancel words",
    "cancel": "news grouping backlog", "capacity": "bounds foreign", "claim": "order fairness gates clock waking words bounds offers",
    "configure": "policies gates_change words refusals laneless", "context": "policies lease clock laneless words refusals",
    "dead_letter": "dead letters review bounds", "dead_list": "dead letters admin words laneless", "dead_replay": "review clock",
    "dead_review": "review news", "destroy": "many admin gates clock", "due": "fairness clock", "enqueue": "enqueue", "events": "events words foreign",
    "extend": "lease notes words broken", "find": "admin words letters", "follow_up": "endings bounds news",
    "gates": "gates gates_change clock news waking", "get": "admin words", "group": "gates",
    "regroup": "many grouping backlog gates_change repair groups", "read": "large order broken", "groups": "gates gates_change grouping backlog repair waking refusals", "key_template": "keys keys", "lease": "lease broken cancel",
    "leases": "lease words", "leave": "lease", "notes": "notes letters clock words", "offer": "offers offering", "options": "enqueue words",
    "order": "order fairness exact bounds rank", "pass_on": "order words", "pause": "gates words news waking", "position": "order",
    "record": "junk settle damage broken exact", "repair": "repair review broken grouping backlog mending",
    "settle": "settle endings words laneless",
    "stage": "order admin keys gates events damage letters clock laneless waking mending news",
    "stats": "lifecycle order clock laneless", "sweep": "lease robust broken words letters mending laneless", "turns": "gates grouping backlog gates_change waking rank", "version": "robust", "whole": "half foreign junk",
}


def build():
    """The two test programs, by name."""
    out = subprocess.run(["cargo", "test", "--locked", "-p", "lanekeeper-queue", "--test", "model", "--test", "redis", "--no-run",
                          "--message-format=json", *PROFILE], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    messages = (json.loads(line) for line in out.splitlines() if line.startswith("{"))
    return {m["target"]["name"]: m["executable"] for m in messages if m.get("executable")}


def left_behind(folder):
    """Processes that work in the folder: servers whose test is gone."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{pid}/cwd").startswith(folder + os.sep):
                found.append(int(pid))
        except OSError:
            pass
    return found


class Bench:
    """Runs test programs, one at a time, in a folder of its own that it empties; and a server that libraries are loaded into."""

    def __init__(self, folder, programs):
        self.folder, self.programs = folder, programs
        self.work, self.library = os.path.join(folder, "work"), os.path.join(folder, "library.lua")
        os.mkdir(folder)
        path = os.path.join(folder, "redis.sock")
        self.server = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--dir", folder],
                                       stdout=subprocess.DEVNULL)
        self.orphans = 0
        while True:
            try:
                self.socket = socket.socket(socket.AF_UNIX)
                self.socket.connect(path)
                return
            except OSError:
                if self.server.poll() is not None:
                    raise RuntimeError("redis-server ended at once")
                time.sleep(0.02)

    def close(self):
        self.server.kill()
        self.server.wait()

    def loads(self, source):
        """Writes the library where the tests read it; whether Redis takes it."""
        with open(self.library, "w") as file:
            file.write(source)
        words = [b"FUNCTION", b"LOAD", b"REPLACE", source.encode()]
        self.socket.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
        reply = b""
        while not reply.endswith(b"\r\n"):
            reply += self.socket.recv(65536)
        return not reply.startswith(b"-")

    def play(self, program, seconds, arguments=(), **env):
        """The first test that failed ('timeout' when none did in time, 'crash' when the program died), or None."""
        os.makedirs(self.work)
        process = subprocess.Popen(
            [self.programs[program], "--test-threads", THREADS, *arguments], cwd=os.path.join(ROOT, "queue"), text=True,
            start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={**os.environ, "RUST_BACKTRACE": "0", "TMPDIR": self.work, "LANEKEEPER_LIBRARY_FILE": self.library, **env})
        try:
            return first_failure(process, time.monotonic() + seconds)
        finally:
            # The servers that it started are of its group.
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
            process.stdout.close()
            self.sweep_up()

    def sweep_up(self):
        """Ends what a test left behind and empties the folder."""
        deadline = time.monotonic() + 2
        while (found := left_behind(self.work)) and time.monotonic() < deadline:
            time.sleep(0.01)
        self.orphans += len(found)
        for pid in found:
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.work, ignore_errors=True)


def first_failure(process, deadline):
    """Reads what the tests say until one has failed, all are done, or the time is over."""
    fd, rest = process.stdout.fileno(), ""
    while True:
        ready, _, _ = select.select([fd], [], [], max(0, deadline - time.monotonic()))
        if not ready:
            return "timeout"
        chunk = os.read(fd, 65536).decode(errors="replace")
        if not chunk:
            return None if process.wait() == 0 else "crash"
        *lines, rest = (rest + chunk).split("\n")
        for line in lines:
            if line.startswith("test ") and line.endswith("... FAILED"):
                return line.split()[1]


class Killers:
    """Which tests caught how many faults, of each file and of all."""

    def __init__(self, entries):
        self.lock, self.counts = threading.Lock(), collections.defaultdict(collections.Counter)
        for entry in entries:
            self.note(entry["file"], entry["by"])

    def note(self, file, by):
        stage, _, test = (by or "").partition(": ")
        if stage == "redis" and "::" in test:
            with self.lock:
                self.counts[file][test] += 1
                self.counts[""][test] += 1

    def of(self, file):
        with self.lock:
            found = self.counts[file].most_common(KILLERS_OF_FILE) + self.counts[""].most_common(KILLERS_OF_ALL)
        return sorted({test for test, _ in found})


class Judge:
    """Puts faults through the stages."""

    def __init__(self, source, files, killers):
        self.source, self.killers, self.limits = source, killers, collections.defaultdict(lambda: 300)
        # Where each file begins in the assembled source.
        self.begins = {name: source.index(text) for name, text in files.items()}

    def stages(self, file):
        own = {file.removesuffix(".lua"), *MODULES.get(file.removesuffix(".lua"), "").split()}
        own = sorted(f"{module}::" for module in own if os.path.exists(f"{ROOT}/queue/tests/redis/{module}.rs"))
        others = [word for module in own for word in ("--skip", module)]
        yield "model-first", "model", [], {"LANEKEEPER_MODEL_OPS": str(MODEL_FIRST)}
        if killers := self.killers.of(file):
            yield "redis", "redis", ["--exact", *killers], {}
        if own:
            yield "redis", "redis", own, {}
        yield "redis", "redis", others, {}
        yield "model-last", "model", [], {"LANEKEEPER_MODEL_OPS": str(MODEL_LAST)}

    def failing(self, bench, stage, program, arguments, env):
        """The test of a stage that fails; one of the Redis tests must do so twice, else it is left out of the next attempt."""
        env = {"LANEKEEPER_MODEL_SEED": str(MODEL_SEED), "LANEKEEPER_MODEL_SHRINK": "0", **env}
        unsteady = []
        while True:
            without = [word for test in unsteady for word in ("--skip", test)]
            failed = bench.play(program, self.limits[stage], [*arguments, *without], **env)
            if failed is None or program == "model" or failed in ("timeout", "crash"):
                return failed, unsteady
            if bench.play(program, self.limits[stage], ["--exact", failed], **env):
                return failed, unsteady
            unsteady.append(failed)

    def judge(self, bench, fault):
        begin = self.begins[fault.file]
        changed = self.source[:begin + fault.start] + fault.by + self.source[begin + fault.end:]
        verdict, by, unsteady = "survived", None, []
        if not bench.loads(changed):
            return {"verdict": "invalid", "by": None}
        for stage, program, arguments, env in self.stages(fault.file):
            failed, steady_not = self.failing(bench, stage, program, arguments, env)
            unsteady += steady_not
            if failed:
                verdict, by = "caught", f"{stage}: {failed}"
                self.killers.note(fault.file, by)
                break
        return {"verdict": verdict, "by": by, **({"unsteady": unsteady} if unsteady else {})}

    def measure(self, bench):
        """Sets the limits by how long the unchanged library takes, which must pass."""
        assert bench.loads(self.source), "the unchanged library does not load"
        limits = {}
        for stage, program, arguments, env in self.stages("none.lua"):
            started = time.monotonic()
            failed, _ = self.failing(bench, stage, program, arguments, env)
            assert not failed, f"the unchanged library fails: {failed}"
            limits[stage] = TIMES * (time.monotonic() - started) + EXTRA
            print(f"{stage}: {time.monotonic() - started:.1f} s", flush=True)
        self.limits = limits


class Book:
    """What became of which fault: kept in a file, where one is named."""

    def __init__(self, path, again, files):
        self.lock, self.entries, self.started = threading.Lock(), {}, time.monotonic()
        self.path, self.fresh = path, 0
        # Tells versions of a file apart: what is known of another one says nothing.
        self.digests = {name: hashlib.sha256(text.encode()).hexdigest()[:12] for name, text in files.items()}
        if path and os.path.exists(path):
            with open(path) as file:
                for line in filter(None, map(str.strip, file)):
                    entry = json.loads(line)
                    if entry["of"] == self.digests.get(entry["file"]):
                        self.entries[entry["fault"]] = entry
        with open(os.path.join(ROOT, "scripts", "lua-survivors.json")) as file:
            self.explained = json.load(file)
        self.todo_again = {fault for fault, entry in self.entries.items()
                           if again and entry["verdict"] == "survived" and not self.why(entry)}

    def why(self, entry):
        """Why a survivor, or a fault that is to be one, harms nobody, by its text and without its place; None when nobody has said."""
        return self.explained.get(f"{entry['file']}: {entry['kind']}: {entry['text']}")

    def knows(self, fault):
        return fault.key() in self.entries and fault.key() not in self.todo_again

    def note(self, fault, result, seconds, total):
        entry = {**fault.as_entry(), "of": self.digests[fault.file], **result, "seconds": round(seconds, 2)}
        with self.lock:
            self.entries[fault.key()] = entry
            self.fresh += 1
            if self.path:
                with open(self.path, "a") as file:
                    file.write(json.dumps(entry) + "\n")
            if result["verdict"] == "survived":
                print(f"SURVIVED {fault.key()}", flush=True)
            if self.fresh % 20 == 0:
                print(f"{self.fresh} of {total} judged in {time.monotonic() - self.started:.0f} s", flush=True)

    def report(self, faults):
        """Prints what became of these faults; the share that was caught."""
        entries = [self.entries[fault.key()] for fault in faults if fault.key() in self.entries]
        count = collections.Counter(entry["verdict"] for entry in entries)
        kinds = collections.defaultdict(collections.Counter)
        for entry in entries:
            kinds[entry["kind"].split()[0]][entry["verdict"]] += 1
        for kind, verdicts in sorted(kinds.items()):
            print(f"  {kind}: {dict(verdicts)}")
        for entry in sorted(entries, key=lambda entry: (entry["file"], entry["line"])):
            if entry["verdict"] == "survived":
                print(f"  survived {entry['fault']}\n    {self.why(entry) or 'UNEXPLAINED'}")
        share = count["caught"] / max(1, count["caught"] + count["survived"])
        print(f"{share:.1%} of {count['caught'] + count['survived']} faults were caught, {count['survived']} survived; "
              f"{count['invalid']} more were invalid and {count['harmless']} harmless by construction")
        return share


def chosen(files, args):
    """The faults to play, in order."""
    found = [fault for name, text in files.items() for fault in lua_faults.faults_of(name, text)]
    print(f"{len(found)} faults can be made", flush=True)
    random.Random(args.seed).shuffle(found)
    found = found[:args.sample]
    return [fault for fault in found if not args.file or fault.file in args.file]


def play(judge, programs, folder, faults, book, jobs, known):
    """Judges the faults, `jobs` at once; with `known` none that survives by what is known of it."""
    todo = []
    for fault in faults:
        if fault.harmless():
            book.entries[fault.key()] = {**fault.as_entry(), "verdict": "harmless", "by": fault.harmless()}
        elif not book.knows(fault):
            todo.append(fault)
    queue, benches = iter(todo), []

    def work(bench):
        while True:
            with book.lock:
                fault = next(queue, None)
            if fault is None:
                return
            if known and book.why(fault.as_entry()):
                # When it is its turn, so that a part of a run stays a sample.
                book.entries[fault.key()] = {**fault.as_entry(), "verdict": "survived", "by": None}
                continue
            started = time.monotonic()
            book.note(fault, judge.judge(bench, fault), time.monotonic() - started, len(todo))

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        try:
            benches += [Bench(os.path.join(folder, f"bench-{n}"), programs) for n in range(jobs)]
            judge.measure(benches[0])
            for one in [pool.submit(work, bench) for bench in benches]:
                one.result()
        except KeyboardInterrupt:
            queue = iter(())
        finally:
            queue = iter(())
            for bench in benches:
                bench.close()
    print(f"{sum(bench.orphans for bench in benches)} servers were left behind by tests")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, help="only so many, chosen by --seed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--file", action="append", help="only faults in this file, such as claim.lua; may be given again")
    parser.add_argument("--jobs", type=int, default=2, help="faults judged at once")
    parser.add_argument("--out", help="where each fault's verdict goes, and where an interrupted run goes on")
    parser.add_argument("--again", action="store_true", help="judges again what survived by --out")
    parser.add_argument("--known", action="store_true", help="plays no fault that lua-survivors.json names: it counts as a survivor")
    parser.add_argument("--list", action="store_true", help="only list the faults")
    args = parser.parse_args()
    files = {}
    for path in sorted(glob.glob(os.path.join(ROOT, "queue", "lua", "*.lua"))):
        with open(path) as file:
            files[os.path.basename(path)] = file.read()
    faults = chosen(files, args)
    if args.list:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `--list | head` is no error
        for fault in sorted(faults):
            print(fault.key())
        return 0
    # Ends it in good order, as Ctrl-C does: what is running is judged yet, and no server stays behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    programs = build()
    with tempfile.TemporaryDirectory(prefix="lua-mutants-") as folder:
        dump = os.path.join(folder, "library.lua")
        subprocess.run([programs["model"]], cwd=ROOT, stdout=subprocess.DEVNULL, check=True,
                       env={**os.environ, "LANEKEEPER_LIBRARY_DUMP": dump, "LANEKEEPER_MODEL_OPS": "1"})
        if args.out:
            os.makedirs(os.path.dirname(os.path.abspath(args.out)), exist_ok=True)
        book = Book(args.out, args.again, files)
        with open(dump) as file:
            judge = Judge(file.read(), files, Killers(book.entries.values()))
        play(judge, programs, folder, faults, book, args.jobs, args.known)
        return 0 if book.report(faults) >= 0.95 else 1


if __name__ == "__main__":
    sys.exit(main())
