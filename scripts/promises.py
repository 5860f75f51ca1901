#!/usr/bin/env python3
"""Every file and every test that docs/promises.md names must be there."""
import os, re, sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DOC = "docs/promises.md"
ROW = re.compile(r"^\| .+ \| `([^`]+\.rs)` \| (`.+`) \|$")


def main():
    wrong, named = [], 0
    for number, line in enumerate(open(os.path.join(ROOT, DOC)), 1):
        if not line.startswith("| ") or line.startswith(("| promise", "| what")):
            continue
        row = ROW.match(line.rstrip("\n"))
        if not row:
            wrong.append(f"{DOC}:{number}: a row is | promise | `file.rs` | `test` `test` |")
            continue
        path = os.path.join(ROOT, row[1])
        text = open(path).read() if os.path.exists(path) else None
        if text is None:
            wrong.append(f"{DOC}:{number}: there is no {row[1]}")
        for test in re.findall(r"`([^`]+)`", row[2]) if text else []:
            named += 1
            if not re.search(rf"#\[(tokio::)?test[^\n]*\n(?:\s*#\[[^\n]*\n)*\s*(?:async )?fn {re.escape(test)}\(", text):
                wrong.append(f"{DOC}:{number}: {row[1]} has no test {test}")
    print("\n".join(wrong) if wrong else f"{named} tests of {DOC} are there")
    return 1 if wrong or not named else 0


sys.exit(main())
