"""Find credentials written into a job file: they would end up in manifests, checkpoints and logs."""

import math
import re
from collections import Counter
from typing import Final

from jobs.config.mistakes import Path

ADVICE: Final = "keep it in the environment (AWS_*, GOOGLE_*, AZURE_*, ...) or in a role, and remove it here"
SHAPES: Final = (
    ("an AWS access key", r"\b(AKIA|ASIA)[0-9A-Z]{16}\b"),
    ("a GitHub token", r"\b(gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,})"),
    ("a GitLab token", r"\bglpat-[A-Za-z0-9_-]{16,}"),
    ("a Slack token", r"\bxox[abprs]-[A-Za-z0-9-]{10,}"),
    ("a Google API key", r"\bAIza[0-9A-Za-z_-]{35}"),
    ("a Hugging Face token", r"\bhf_[A-Za-z0-9]{30,}"),
    ("an API key", r"\bsk-[A-Za-z0-9_-]{20,}"),
    ("a JSON web token", r"\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\."),
    ("a private key", r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    ("a password in a URL", r"://[^/@\s:]*:[^/@\s]+@"),
    (
        "a signature or token in a URL",
        r"(?i)[?&](x-amz-)?(sig|signature|credential|security-token|token|"
        r"access_token|api_?key|secret|password)=[^&\s]{6,}",
    ),
)
PASSWORDS: Final = re.compile(r"(?i)(^|[_-])(password|passwd|passphrase)$")
NAMES: Final = re.compile(r"(?i)(^|[_-])(api_?key|key|secret|token|credentials?)(_id)?$")


def find(path: Path, value: object) -> str | None:
    """What kind of secret the value at `path` seems to be, or None."""
    if not isinstance(value, str):
        return None
    for what, shape in SHAPES:
        if re.search(shape, value):
            return what
    name = next((part for part in reversed(path) if isinstance(part, str)), "")
    if PASSWORDS.search(name) and value:
        return "a password"
    if NAMES.search(name) and len(value) >= 16 and _entropy(value) > 3.0:
        return "a secret"
    return None


def _entropy(text: str) -> float:
    """Bits a letter; words of a language come to 2.5 at such lengths, random hex to 3.5 and more."""
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())
