"""Finds tokens that their providers have made recognizable: by the prefix, as in `ghp_...`, and the signs behind it.

Owns the list of prefixes, which the compiled core is given, too (ingest/core_c/secrets.pxi). Does not know records or
other forms of secrets. A token without a prefix looks like any other word, and is not found.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from prefork_logd.records.redacted import ESCAPED, REDACTED


class Prefix(NamedTuple):
    """The beginning of a provider's tokens, and what follows it."""

    text: str
    signs: str
    """Class of characters of a regular expression: those that follow."""
    least: int
    """Least number of them."""
    is_exact: bool = False
    """Whether a token has exactly so many."""


_LETTERS, _WORD = "A-Za-z0-9", "A-Za-z0-9_-"

PREFIXES = (
    # AWS access key ids, https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html
    *(Prefix(text, "A-Z0-9", 16, True) for text in ("AKIA", "ASIA")),
    # GitHub, https://github.blog/engineering/behind-githubs-new-authentication-token-formats/
    *(Prefix(text, "A-Za-z0-9_", 36) for text in ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_")),
    # GitLab, https://docs.gitlab.com/security/tokens/#token-prefixes
    *(
        Prefix(f"{text}-", _WORD, 20)
        for text in ("glpat", "gloas", "gldt", "glrt", "glrtr", "glptt", "glft", "glimt", "glagent", "glsoat", "glffct")
    ),
    Prefix("glcbt-", _WORD, 16),
    # Slack, https://api.slack.com/concepts/token-types
    *(Prefix(f"xox{kind}-", f"{_LETTERS}-", 20) for kind in "abceoprs"),
    Prefix("xapp-", f"{_LETTERS}-", 20),
    # Stripe, https://docs.stripe.com/keys
    *(Prefix(f"{kind}_{mode}_", _LETTERS, 16) for kind in ("sk", "rk") for mode in ("live", "test")),
    Prefix("whsec_", f"{_LETTERS}+/=", 24),
    # Google: API keys, client secrets, access tokens
    Prefix("AIza", _WORD, 35, True),
    Prefix("GOCSPX-", _WORD, 24),
    Prefix("ya29.", _WORD, 20),
    # Models: OpenAI, Anthropic, Hugging Face
    *(Prefix(f"sk-{kind}-", _WORD, 20) for kind in ("proj", "svcacct", "admin", "ant")),
    Prefix("hf_", _LETTERS, 30),
    # Packages: npm, PyPI, RubyGems, Docker Hub
    Prefix("npm_", _LETTERS, 36),
    Prefix("pypi-", _WORD, 50),
    Prefix("rubygems_", "0-9a-f", 48),
    Prefix("dckr_pat_", _WORD, 20),
    # Hosting and monitoring: DigitalOcean, HashiCorp Vault, Grafana
    *(Prefix(f"do{kind}_v1_", "0-9a-f", 64) for kind in "opr"),
    *(Prefix(f"hv{kind}.", _WORD, 24) for kind in "sbr"),
    Prefix("glsa_", "A-Za-z0-9_", 32),
    Prefix("glc_", f"{_LETTERS}+/=", 32),
    # Shops and mail: Shopify, SendGrid
    *(Prefix(f"shp{kind}_", "0-9A-Fa-f", 32) for kind in ("at", "ca", "pa", "ss")),
    Prefix("SG.", f".{_WORD}", 40),
)
"""Prefixes of tokens of well-known providers."""

_FIRST = "".join(sorted({prefix.text[0] for prefix in PREFIXES}))


def _alternatives() -> str:
    """Return one alternative for each kind of token, with a group around its prefix."""
    kinds: dict[tuple[str, int, bool], list[str]] = {}
    for prefix in PREFIXES:
        kinds.setdefault((prefix.signs, prefix.least, prefix.is_exact), []).append(re.escape(prefix.text))
    return "|".join(
        f"({'|'.join(texts)})[{signs}]{{{least}{'' if is_exact else ','}}}+{'(?![A-Za-z0-9])' if is_exact else ''}"
        for (signs, least, is_exact), texts in kinds.items()
    )


_TEXTS = tuple(prefix.text for prefix in PREFIXES)
_LONG_TEXT = 4_096
"""Characters of a text in which a search for each prefix costs less than a try of all of them at each place."""
_TOKEN = re.compile(rf"(?=[{_FIRST}])(?:(?<![A-Za-z0-9])|{ESCAPED})(?:{_alternatives()})")


def without_provider_tokens(text: str) -> str:
    """Return a text without the tokens of PREFIXES; each prefix stays, to tell which token it was."""
    if len(text) > _LONG_TEXT and not any(prefix in text for prefix in _TEXTS):
        return text
    return _TOKEN.sub(lambda match: f"{match[match.lastindex or 0]}{REDACTED}", text)
