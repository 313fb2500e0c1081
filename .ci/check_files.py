"""Refuse files that must not be committed: too big, with a secret in them, or naming one machine.

    python .ci/check_files.py [FILE...]      without files: all that git tracks or would track

Prints `file:line: reason` for each finding (never the secret itself) and ends with 1 if there was any. A line
that only looks like a secret is let through when it says `not a secret`.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAX_BYTES = {".ipynb": 400_000}
MAX_BYTES_OTHERS = 6_000_000
LET_THROUGH = "not a secret"

# No pattern matches itself, so this file passes its own check.
ASSIGNED = r"[\"']?\s*(?::\s*\w+\s*)?[:=]\s*[\"']"
SECRETS = {
    "an AWS access key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "an AWS secret key": r"(?i)aws_secret_access_key\W{1,5}[0-9a-z/+]{40}(?![0-9a-z/+])",
    "a private key": r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----",
    "a GitHub token": r"\b(?:gh[pousr]_[0-9A-Za-z]{36,}|github_pat_\w{40,})",
    "a GitLab token": r"\bglpat-[\w-]{20,}",
    "a Slack token": r"\bxox[abeoprs]-[\w-]{10,}",
    "a package index token": r"\bpypi-[\w-]{50,}",
    "a Google API key": r"\bAIza[\w-]{35}\b",
    "an API key": r"\bsk[-_](?:[a-z]+[-_])?[0-9A-Za-z]{20,}\b",
    "a JSON web token": r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}",
    "a password in a URL": r"\b[a-z][a-z0-9+]*://[^\s/:@\"']+:(?P<value>[^\s/:@\"']{3,})@",
    "a password": rf"(?i)(?:password|passwd|pwd){ASSIGNED}(?P<value>[^\s\"']{{6,}})[\"']",
    "a password in settings": r"(?i)^(?:export )?\w*(?:password|passwd|pwd)=(?P<value>[^\s\"'(,]{6,})$",
    "a token": rf"(?i)(?:token|secret|api_?key){ASSIGNED}"
    r"(?P<value>(?=\S*[0-9])(?=\S*[a-z])[\w+/=.-]{16,})[\"']",
}
# What people write where a password would stand.
PLACEHOLDER = re.compile(
    r"(?i)^[<{$%]|^(?:password|passwd|pwd|secret|token)$|example|placeholder|change.?me|your|xxx|\*\*\*|\.\.\."
)

ONE_MACHINE = {
    "a package registry's host": r"(?i)pythonhoste[d]|\bpyp[i]\.org|registry\.npmj[s]|\banacond[a]\.org",
    "a path of one machine": r"(?<![\w.~*-])"
    r"/(?:wor[k]|far[m]|tm[p]|roo[t]|(?:home|Users)/\w+|opt/(?:pyp[i]|wheel[s]))/",
    "a private tool's name": r"\bfar[m]-[a-z]",
}


def find_tracked() -> list[Path]:
    """List the files that git tracks or would track; outside a checkout an OSError or CalledProcessError."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [path for name in names.split("\0") if name and (path := ROOT / name).is_file()]


def find_in_text(text: str) -> Iterator[tuple[int, str]]:
    """Give line number and reason for each secret or machine's name in a text."""
    rules = [(reason, re.compile(pattern)) for reason, pattern in (SECRETS | ONE_MACHINE).items()]
    for number, line in enumerate(text.splitlines(), start=1):
        if LET_THROUGH in line:
            continue
        for reason, pattern in rules:
            found = pattern.search(line)
            if found and not PLACEHOLDER.search(found.groupdict().get("value") or "-"):
                yield number, reason


def find_in_file(path: Path) -> Iterator[str]:
    """Give one line of text for each reason not to commit a file."""
    name = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    limit = MAX_BYTES.get(path.suffix, MAX_BYTES_OTHERS)
    if path.stat().st_size > limit:
        yield f"{name}: {path.stat().st_size / 1e6:.1f} MB is over the limit of {limit / 1e6:.1f} MB"
    content = path.read_bytes()
    if b"\0" not in content[:8192]:
        for number, reason in find_in_text(content.decode("utf-8", errors="replace")):
            yield f"{name}:{number}: {reason}"


def main(names: Iterable[str]) -> int:
    """Check the files named, or all tracked ones; give the exit code."""
    try:
        paths = [Path(name).resolve() for name in names] or find_tracked()
    except (OSError, subprocess.CalledProcessError):
        print("check_files: not a git checkout, so there is nothing to check unless files are named")
        return 0
    findings = [finding for path in paths for finding in find_in_file(path)]
    print(*findings, sep="\n", end="\n" if findings else "")
    if findings:
        print(f"A line that only looks like a secret is let through when it says `{LET_THROUGH}`.")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
