"""The faults that scripts/lua-mutants.py makes in the Lua files of the queue. Pure: text in, faults out."""
import re
from typing import NamedTuple

TURNED = {" < ": " >= ", " > ": " <= ", " <= ": " > ", " >= ": " < ", " == ": " ~= ", " ~= ": " == "}
CALLED = re.compile(r"^[ \t]+(?!(?:if|for|while|until|elseif|return|local|function|and|or|not)\b)[A-Za-z_][\w.]*\(")
ASSIGNED = re.compile(r"^[ \t]+[a-z]\w*(?:\.\w+|\[[^\n=]*?\])[^\n=]*? = ")
CONDITION = re.compile(r"^[ \t]*(?:if|elseif) ")
RETURNED = re.compile(r"^[ \t]*return ")
# A line that goes on: it ends so, or the next one begins so.
OPEN_END = re.compile(r"(?:[,({\[=+*/<>-]|\.\.|\band|\bor|\bnot)$")
GOES_ON = re.compile(r"[ \t]*(?:and\b|or\b|\.\.|[-+*/] )")

# Faults that no caller can see, by construction: file, kind, text of the line, reason. They are not run, and count neither as
# caught nor as survivors. A cache that is never emptied is not among them: its memory is the server's.
HARMLESS = [
    ("lease.lua", "guard removed", r"^if lease then$", "a cache of decoded leases is not asked"),
    ("lease.lua", "dropped", r"^known_leases\[raw\] = lease$", "a cache of decoded leases stays empty"),
    ("lease.lua", "turned >=", r"known_lease_count >= 1024", "a cache of decoded leases is emptied too often"),
    ("options.lua", "guard removed", r"^if known then$", "a cache of decoded options is not asked"),
    ("options.lua", "dropped", r"^parsed\[text\] = options$", "a cache of decoded options stays empty"),
    ("options.lua", "turned >=", r"parsed_count >= 64", "a cache of decoded options is emptied too often"),
    ("options.lua", "guard removed|turned <=", r"#text <= 128", "a cache of decoded options takes none, or only long ones"),
    ("context.lua", "turned >=", r"policy_count >= 256", "a cache of compiled policies is emptied too often"),
]


class Fault(NamedTuple):
    file: str
    line: int
    column: int
    kind: str
    text: str
    # The part of the file that is replaced, and by what.
    start: int
    end: int
    by: str

    def key(self):
        return f"{self.file}:{self.line}:{self.column}: {self.kind}: {self.text}"

    def as_entry(self):
        """What the book says of it before it is judged."""
        return {"fault": self.key(), "file": self.file, "line": self.line, "kind": self.kind, "text": self.text}

    def harmless(self):
        """Why nobody can see it; None when somebody may."""
        for file, kind, line, why in HARMLESS:
            if file == self.file and re.fullmatch(kind, self.kind) and re.search(line, self.text):
                return why
        return None


def masked(text):
    """The text with its comments and the insides of its strings blanked, at the same length."""
    def blank(match):
        found = match.group(0)
        if found[0] == "-":
            return " " * len(found)
        return found[0] + "_" * (len(found) - 2) + found[0]
    return re.sub(r"--[^\n]*|'(?:\\.|[^'\\\n])*'|\"(?:\\.|[^\"\\\n])*\"", blank, text)


class Source:
    """A file in lines, as text and masked."""

    def __init__(self, file, text):
        self.file, self.text, self.mask = file, text, masked(text)
        self.lines = self.mask.split("\n")
        self.starts, at = [], 0
        for line in self.lines:
            self.starts.append(at)
            at += len(line) + 1

    def begins_statement(self, n):
        before = next((line.rstrip() for line in reversed(self.lines[:n]) if line.strip()), "")
        return not OPEN_END.search(before) and not GOES_ON.match(self.lines[n])

    def last_line(self, n):
        """The last line of the statement that begins with line n."""
        depth = 0
        for at in range(n, len(self.lines)):
            line = self.lines[at]
            depth += sum(map(line.count, "([{")) - sum(map(line.count, ")]}"))
            goes_on = at + 1 < len(self.lines) and GOES_ON.match(self.lines[at + 1])
            if depth <= 0 and not goes_on and not OPEN_END.search(line.rstrip()):
                return at
        return n

    def fault(self, kind, start, end, by):
        line = self.text.count("\n", 0, start)
        # A statement of several lines: its last ones stay empty, so that the lines after it keep their numbers.
        by += "\n" * self.text.count("\n", start, end)
        said = " ".join(self.text[self.starts[line]:max(end, self.end_of(line))].split())
        return Fault(self.file, line + 1, start - self.starts[line] + 1, kind, said, start, end, by)

    def end_of(self, n):
        return self.starts[n] + len(self.lines[n])


def is_one_call(statement):
    """Whether the statement is a call and nothing else: its first bracket closes at its end."""
    depth = 0
    for at, c in enumerate(statement):
        depth += (c in "([{") - (c in ")]}")
        if c in ")]}" and depth == 0:
            return not statement[at + 1:].strip()
    return False


def operators(source, start, end):
    """Every `and` and `or` of a part of the file becomes the other."""
    for match in re.finditer(r"\b(and|or)\b", source.mask[start:end]):
        other = "or" if match.group(1) == "and" else "and"
        yield source.fault(f"{match.group(1)} -> {other}", start + match.start(), start + match.end(), other)


def of_statement(source, n):
    """Faults of the statement that begins with line n."""
    line, last = source.lines[n], source.last_line(n)
    start, end = source.starts[n], source.end_of(last)
    whole = source.mask[start:end]
    begin = start + len(line) - len(line.lstrip())
    if "function" in whole:
        return
    if CALLED.match(line) and is_one_call(whole):
        yield source.fault("dropped", begin, end, "")
    elif ASSIGNED.match(line) and not line.lstrip().startswith("local "):
        yield source.fault("dropped", begin, end, "")
    elif RETURNED.match(line):
        yield from operators(source, start, end)


def of_condition(source, n):
    """Faults of an `if` or `elseif` that begins with line n."""
    match = CONDITION.match(source.lines[n])
    start = source.starts[n] + match.end()
    then = re.compile(r"\bthen\b").search(source.mask, start)
    end = then.start() - 1
    condition = source.mask[start:end]
    yield source.fault("guard removed", start, end, "false")
    # Where something is compared or joined, other faults make it pass too often.
    if not re.search(r"[<>]|[~=]=|\b(?:and|or)\b", condition):
        yield source.fault("guard always", start, end, "true")
    yield from operators(source, start, end)


def faults_of(file, text):
    """Every fault that can be made in a file."""
    source, found = Source(file, text), []
    for n, line in enumerate(source.lines):
        for old, new in TURNED.items():
            at = line.find(old)
            while at >= 0:
                start = source.starts[n] + at
                found.append(source.fault("turned" + old.rstrip(), start, start + len(old), new))
                at = line.find(old, at + 1)
        if CONDITION.match(line):
            found.extend(of_condition(source, n))
        elif line.strip() and source.begins_statement(n):
            found.extend(of_statement(source, n))
    return found
