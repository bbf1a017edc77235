"""Forms of secrets in texts: each is found, however it is written, and nothing else is changed."""

from __future__ import annotations

import json
import time
from urllib.parse import quote, quote_plus

import pytest

from prefork_logd.config.redact import DEFAULT_KEYS
from prefork_logd.records.provider_tokens import PREFIXES
from prefork_logd.records.record import Record
from prefork_logd.records.redacted import REDACTED
from prefork_logd.records.redaction import Redactor
from prefork_logd.records.secret_forms import FORMS

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"

JWE = "eyJhbGciOiJkaXIiLCJlbmMiOiJBMTI4R0NNIn0..abcdefghijklmnop.uvwxyzuvwxyz.abcdefghijk"

LINE = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQDLgGMl+/Kq9w0B"
KEY = f"{LINE}\n{LINE}\nqhki9w0="
BEGIN, END = "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----"
HIDDEN = f"{BEGIN}{REDACTED}{END}"


@pytest.mark.parametrize(
    ("form", "text", "shown"),
    [
        ("bearer", "Authorization: Bearer abc.DEF-123= x", f"Authorization: Bearer {REDACTED} x"),
        ("bearer", "basic   dXNlcjpwYXNz", f"basic   {REDACTED}"),
        ("bearer", "the bearer came, basic needs", "the bearer came, basic needs"),
        ("bearer", "a=Bearer%20abcdefgh&b=Bearer+abcdefgh", f"a=Bearer%20{REDACTED}&b=Bearer+{REDACTED}"),
        ("bearer", "bearer: abcdefgh, 'Bearer': 'abcdefgh'", f"bearer: {REDACTED}, 'Bearer': '{REDACTED}'"),
        ("bearer", r"\r\nBearer 12|abcdef#\/gh\r\n", rf"\r\nBearer {REDACTED}\r\n"),
        ("bearer", "basic: understanding", "basic: understanding"),
        (
            "key-value",
            "https://h/?a=1&password=x%20y&api_key=z#f",
            f"https://h/?a=1&password={REDACTED}&api_key={REDACTED}",
        ),
        ("key-value", "%26token%3Dabc%26b", f"%26token%3D{REDACTED}"),
        ("key-value", "host=h user=u password=x port=5", f"host=h user=u password={REDACTED} port=5"),
        ("key-value", r'{"password": "a\"b\\", "n": 1}', f'{{"password": "{REDACTED}", "n": 1}}'),
        ("key-value", '{"token":{"a":["b"]},"n":1}', f'{{"token":{REDACTED},"n":1}}'),
        ("key-value", r"{\"token\":\"a\",\"n\":1}", rf"{{\"token\":\"{REDACTED}\",\"n\":1}}"),
        (
            "key-value",
            "{'password': None, 'secret': 'x', 'pwd': 5}",
            f"{{'password': None, 'secret': '{REDACTED}', 'pwd': {REDACTED}}}",
        ),
        ("key-value", "[(b'cookie', b'sid=x'), ('host', 'h')]", f"[(b'cookie', b'{REDACTED}'), ('host', 'h')]"),
        ("key-value", "run --password x --user u", f"run --password {REDACTED} --user u"),
        ("key-value", "Authorization: Digest a=b, c=d\\nHost: h", f"Authorization: {REDACTED}\\nHost: h"),
        ("key-value", "Set-Cookie: sid=x; Path=/", f"Set-Cookie: {REDACTED}"),
        ("key-value", "X-Api-Key: Token x y", f"X-Api-Key: {REDACTED} y"),
        (
            "key-value",
            "password => x, max_tokens=5, the password is",
            f"password => {REDACTED}, max_tokens=5, the password is",
        ),
        ("key-value", "password='cut off", f"password='{REDACTED}"),
        ("key-value", "password=<redacted> password=", "password=<redacted> password="),
        ("card", "paid with 4111 1111 1111 1111.", f"paid with {REDACTED}."),
        ("card", "4111-1111-1111-1111 2026", f"{REDACTED} 2026"),
        ("card", "5500005555555559", REDACTED),
        ("card", "4111 1111 1111 1112", "4111 1111 1111 1112"),
        (
            "card",
            "at 1795404245125 ms, order 4111111111111111000000000",
            "at 1795404245125 ms, order 4111111111111111000000000",
        ),
        ("card", "4111111111111111 12/27, 123", f"{REDACTED} 12/27, 123"),
        ("card", "2026-11-30 12:30 4111 1111 1111 1111 99", f"2026-11-30 12:30 {REDACTED} 99"),
        ("card", "23 4111111111111111 5500005555555559", f"23 {REDACTED} {REDACTED}"),
        ("card", "3782 822463 10005 1234", f"{REDACTED} 1234"),
        ("card", "n%3D4111%201111%201111%201111", f"n%3D{REDACTED}"),
        ("card", "n=%204111111111111111 %094111111111111111", f"n=%20{REDACTED} %09{REDACTED}"),
        ("card", "4111.1111.1111.1111 4111+1111+1111+1111", f"{REDACTED} {REDACTED}"),
        ("card", "4111\u00a01111\u20131111  1111", REDACTED),
        ("card", "94111111111111111", "94111111111111111"),
        ("card", "25 36 47 58 69 71 82 93", "25 36 47 58 69 71 82 93"),
        ("jwt", f"token={JWT};", f"token={REDACTED};"),
        ("jwt", f"?t=%3D{JWT}&u=%20{JWT}", f"?t=%3D{REDACTED}&u=%20{REDACTED}"),
        ("jwt", rf"b'token\n{JWT}' \u0022{JWT}\u0022", rf"b'token\n{REDACTED}' \u0022{REDACTED}\u0022"),
        ("jwt", f"id_{JWT} a.b.c.d.e.{JWT}", f"id_{REDACTED} a.b.c.d.e.{REDACTED}"),
        ("jwt", f"to {JWE}.", f"to {REDACTED}."),
        (
            "jwt",
            "MonkeyJourneyService.processRequest.handleCallback",
            "MonkeyJourneyService.processRequest.handleCallback",
        ),
        ("jwt", "eyJ.a.b eyJabcdefg.short.x", "eyJ.a.b eyJabcdefg.short.x"),
        (
            "url-password",
            "postgresql://u:p:w@db/x and http://a/b:c@d",
            f"postgresql://u:{REDACTED}@db/x and http://a/b:c@d",
        ),
        ("url-password", "redis://:a/b@h http://h:80/x@y", f"redis://:{REDACTED}@h http://h:80/x@y"),
        ("url-password", r"pg:\/\/u:a@h", rf"pg:\/\/u:{REDACTED}@h"),
        ("url-password", "redis://:geheim@h", f"redis://:{REDACTED}@h"),
        ("url-password", "pg://u:a@h1,v:b@h2:1,[::1]/db", f"pg://u:{REDACTED}@h1,v:{REDACTED}@h2:1,[::1]/db"),
        ("url-password", "pg://u@[::1]:5,v:b,c@h2 x:y@z", f"pg://u@[::1]:5,v:{REDACTED}@h2 x:y@z"),
        ("url-password", "pg://u:a@b@h1,v:c@h2", f"pg://u:{REDACTED}@h1,v:{REDACTED}@h2"),
        ("url-password", "pg://h1:1,u:a@h2", f"pg://h1:{REDACTED}@h2"),
        ("url-password", "http://u@h and http://u:@h", "http://u@h and http://u:@h"),
        ("private-key", f"k: {BEGIN}\n{KEY}\n{END}\nand more", f"k: {HIDDEN}\nand more"),
        (
            "private-key",
            f"{BEGIN} {LINE} {END} {BEGIN}\n{KEY}\n{END}",
            f"{HIDDEN} {HIDDEN}",
        ),
        (
            "private-key",
            f"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: x,1\n\n{KEY}\nlast words of it",
            f"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: x,1\n\n{REDACTED}\nlast words of it",
        ),
        (
            "private-key",
            f"---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\n{KEY}\n---- END SSH2 ENCRYPTED PRIVATE KEY ----",
            f"---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----{REDACTED}---- END SSH2 ENCRYPTED PRIVATE KEY ----",
        ),
        (
            "private-key",
            f"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n{KEY}\n=njUN\n-----END PGP PRIVATE KEY BLOCK-----",
            f"-----BEGIN PGP PRIVATE KEY BLOCK-----{REDACTED}-----END PGP PRIVATE KEY BLOCK-----",
        ),
        ("private-key", repr(f"{BEGIN}\n{KEY}\n{END}\n"), rf"'{HIDDEN}\n'"),
        ("private-key", json.dumps([json.dumps(f"{BEGIN}\n{KEY}\n{END}")]), rf'["\"{HIDDEN}\""]'),
        ("private-key", repr(f"{BEGIN}\n{KEY}".splitlines()), f"['{BEGIN}{REDACTED}']"),
        ("private-key", repr(f"{BEGIN}\n{KEY}".encode().splitlines()), f"[b'{BEGIN}{REDACTED}']"),
        ("private-key", f"?k={quote(BEGIN + chr(10) + KEY + END)}&a", f"?k={quote(BEGIN)}{REDACTED}{quote(END)}&a"),
        (
            "private-key",
            f"?k={quote_plus(quote_plus(f'{BEGIN}{chr(10)}{KEY}{chr(10)}'))}&a=1",
            f"?k={quote_plus(quote_plus(BEGIN))}{REDACTED}%250A&a=1",
        ),
        (
            "private-key",
            f"{BEGIN}\n{KEY}ab... (90 characters cut) ...",
            f"{BEGIN}{REDACTED}... (90 characters cut) ...",
        ),
        (
            "private-key",
            repr(f"{BEGIN}\nProc-Type: 4,ENCRYPTED\nDEK-Info: DES,{'0F' * 8}\n\n{KEY}".encode().splitlines()),
            f"[b'{BEGIN}', b'Proc-Type: 4,ENCRYPTED', b'DEK-Info: DES,{'0F' * 8}', b'', b'{REDACTED}']",
        ),
        ("private-key", repr(f"cut {KEY}\n{END}"), f"'cut {REDACTED}{END}'"),
        (
            "private-key",
            quote(repr(f"cut {KEY}\n{END}".splitlines())),
            f"%5B%27cut%20{REDACTED}{quote(END)}%27%5D",
        ),
        ("private-key", f"+{BEGIN}\n+{KEY}\n+  | {LINE}\n+  and more", f"+{BEGIN}{REDACTED}\n+  and more"),
        ("private-key", f"cut ... {KEY}\n{END} a", f"cut ... {REDACTED}{END} a"),
        ("private-key", f"cut ... {KEY}\n=njUN\n{END} a", f"cut ... {REDACTED}{END} a"),
        (
            "private-key",
            f"{BEGIN}\n{KEY}\n-----BEGIN CERTIFICATE-----",
            f"{BEGIN}{REDACTED}\n-----BEGIN CERTIFICATE-----",
        ),
        (
            "private-key",
            f"expected {BEGIN} in the file, as {END} and {END}",
            f"expected {BEGIN} in the file, as {END} and {END}",
        ),
        (
            "private-key",
            f"if not key.startswith('{BEGIN}'): raise ValueError('no line with {BEGIN} in the file of the keys')",
            f"if not key.startswith('{BEGIN}'): raise ValueError('no line with {BEGIN} in the file of the keys')",
        ),
        (
            "private-key",
            f"-----BEGIN PUBLIC KEY-----\n{KEY}\n-----END PUBLIC KEY----- of the PRIVATE KEY",
            f"-----BEGIN PUBLIC KEY-----\n{KEY}\n-----END PUBLIC KEY----- of the PRIVATE KEY",
        ),
        ("private-key", f"a PRIVATE letter {KEY}", f"a PRIVATE letter {KEY}"),
        *(
            ("provider-token", f"by {prefix.text}{'a1B2' * 20} it", f"by {prefix.text}{REDACTED} it")
            for prefix in PREFIXES
            if not prefix.is_exact and prefix.signs[-1] != "f"
        ),
        ("provider-token", "key AKIAIOSFODNN7EXAMPLE.", f"key AKIA{REDACTED}."),
        ("provider-token", r"\r\nASIAIOSFODNN7EXAMPLE %20npm_" + "a1" * 18, rf"\r\nASIA{REDACTED} %20npm_{REDACTED}"),
        ("provider-token", f"https://x:glpat-{'a-' * 12}@h", f"https://x:glpat-{REDACTED}@h"),
        ("provider-token", f"x_sk_live_{'a1' * 12}&k=AIza{'b' * 35}", f"x_sk_live_{REDACTED}&k=AIza{REDACTED}"),
        ("provider-token", f"dop_v1_{'0f' * 32} dop_v1_{'0g' * 32}", f"dop_v1_{REDACTED} dop_v1_{'0g' * 32}"),
        *(
            ("provider-token", text, text)
            for text in (
                f"AKIA{'A' * 17} xAKIA{'A' * 16} AKIA{'A' * 15} akia{'A' * 16}",
                f"task_live_{'a1' * 12} ghp_{'a' * 35} github_pat_short xoxb-short hf_hub_download",
                f"commit {'3f' * 20}, {'c' * 8}-{'d' * 4}-4{'d' * 3}-8{'d' * 3}-{'e' * 12}, sk-learn-something-some",
                "pypi-publish-to-test-index, npm_config_registry=https://registry.example.org/npm_",
                "hvs.example.org",
            )
        ),
        (
            "url-password",
            "u=postgresql%3A%2F%2Fu%3Ap%25w%40db%2Fx&v=redis%3a%2f%2f%3Aa%2Fb%40h",
            f"u=postgresql%3A%2F%2Fu%3A{REDACTED}%40db%2Fx&v=redis%3a%2f%2f%3A{REDACTED}%40h",
        ),
        ("url-password", quote(quote("p://u:a/%@h/d", ""), ""), f"p%253A%252F%252Fu%253A{REDACTED}%2540h%252Fd"),
        (
            "url-password",
            "p%3A%2F%2Fu%3Aa%40h%2Cv%3Ab%40i%2F p%3A%2F%2Fu%40h%3A5%2F p%3A%2F%2Fh%3A80%2Fx%40y",
            f"p%3A%2F%2Fu%3A{REDACTED}%40i%2F p%3A%2F%2Fu%40h%3A5%2F p%3A%2F%2Fh%3A80%2Fx%40y",
        ),
        (
            "url-password",
            f"git+https://{'a1b2' * 5}@h/r.git HTTP://{'a1b2' * 5}:x-oauth-basic@h",
            f"git+https://{REDACTED}@h/r.git HTTP://{REDACTED}:{REDACTED}@h",
        ),
        ("url-password", f"https%3A%2F%2F{'a1b2' * 5}%40h", f"https%3A%2F%2F{REDACTED}%40h"),
        (
            "url-password",
            f"https://service-account-of-the-shop-1@h pg://{'a1b2' * 5}@h https://{'a1b2' * 4}@h",
            f"https://service-account-of-the-shop-1@h pg://{'a1b2' * 5}@h https://{'a1b2' * 4}@h",
        ),
        ("key-value", "\ufeffpwd=x pass\u200bword=y", f"\ufeffpwd={REDACTED} pass\u200bword={REDACTED}"),
        ("key-value", "{u'token': u'x', u'n': 1}", f"{{u'token': u'{REDACTED}', u'n': 1}}"),
        ("key-value", "pwd=bob pwd=u'x'", f"pwd={REDACTED} pwd=u'{REDACTED}'"),
        ("key-value", "token=SecretStr('a b'), n=1, pwd=(x)", f"token={REDACTED}, n=1, pwd={REDACTED}"),
        ("key-value", "token == 'x' and pwd := y", f"token == '{REDACTED}' and pwd := {REDACTED}"),
        ("key-value", "SET pwd='it''s x', n='y'; pwd='', n='y'", f"SET pwd='{REDACTED}', n='y'; pwd='', n='y'"),
        ("key-value", "%7B%22token%22%3A%20%22x%22%2C%22n%22", f"%7B%22token%22%3A%20%22{REDACTED}%22%2C%22n%22"),
        (
            "key-value",
            'Authorization: Digest username="u", response="x"\nHost: h',
            f"Authorization: {REDACTED}\nHost: h",
        ),
        *(
            ("key-value", text.format("x"), text.format(REDACTED))
            for text in (
                '[{{"name": "Cookie", "value": "{}"}}, {{"name": "Host", "value": "h"}}]',
                "{{'Key': 'token',\n  'n': 1, 'Value': u'{}', 'value': 'y'}}",
                'b"{{\\"header\\":\\"cookie\\",\\"value\\":\\"{}\\"}}"',
                '<add key="token" value="{}"/> <input name="n" value="y">',
                'Content-Disposition: form-data; name="token"\r\n\r\n{}\r\n--b',
                'form-data; name="token"\r\nContent-Type: text/plain\r\n\r\n{}\r\n--b\r\nname="n"\r\n\r\ny',
                r"""b'name="token"\r\n\r\n{}\r\n--b'""",
                '<s:Envelope><s:Token a="b">{}</s:Token><n>y</n></s:Envelope>',
                "<token>{}<\\/token> <token></token> <token/> usage: <token> <host>",
                "<pwd>{}</pwd><pwd>\n</pwd><token>null</token><token><a>y</a></token><token>y</pwd>",
            )
        ),
        ("key-value", "<pwd><![CDATA[a<b]]></pwd>", f"<pwd>{REDACTED}</pwd>"),
        ("key-value", '{"type": "password", "label": "x"}', '{"type": "password", "label": "x"}'),
        ("key-value", '{"name": "n", "value": "token"} key="pwd"', '{"name": "n", "value": "token"} key="pwd"'),
        ("url-password", '"http://u:a@h","x":"y@z"', f'"http://u:{REDACTED}@h","x":"y@z"'),
    ],
)
def test_forms(form: str, text: str, shown: str) -> None:
    """In the message, the traceback, the stack and the texts of extra alike."""
    redactor = Redactor(DEFAULT_KEYS, (), [form])
    record = Record(created=1.0, message=text, exc_text=text, stack_info=text, extra={"a": [text, {"b": text}], "n": 1})
    assert redactor.redact(record) == (text != shown)
    assert (record.message, record.exc_text, record.stack_info) == (shown, shown, shown)
    assert record.extra == {"a": [shown, {"b": shown}], "n": 1}


@pytest.mark.parametrize("form", sorted(FORMS))
@pytest.mark.parametrize(
    "seed",
    [
        "eyJ",
        "eyJ.",
        "eyJaaaaaaaaaa.",
        "bearer ",
        "bearer",
        " ",
        "4",
        "4 ",
        "4-",
        "://",
        "://a:",
        "a.",
        "@",
        "://a:b",
        "://@",
        "://a:b@c,",
        "a:b@c,",
        ":\\/\\/a:b",
        "://a:b/",
        "eyJaaaaaaaaaa.eyJ",
        "_",
        "-eyJ",
        "%20",
        "44 ",
        "4444 ",
        "token",
        "token=",
        "--token ",
        'token="',
        'token=\\"',
        "token={",
        "\\",
        "a\\\\",
        "token': 'x",
        "token=a(",
        "token=a('\"(",
        "token=a ",
        'name="token" ',
        'name="token"\n',
        'name="token"\na:b\n',
        'name="',
        "name=",
        "<token>",
        "<a:",
        "<token><![CDATA[",
        "<token>x</tokem>",
        "<token x",
        "token%3A%22",
        "token%3A%22 ",
        "token=''",
        'cookie: a="',
        BEGIN,
        END,
        "-----",
        "-----BEGIN ",
        f"{BEGIN}{LINE} ",
        f"{LINE} {END}",
        "a ",
        "PRIVATE ",
        "ghp_",
        "glpat-",
        "%3A%2F%2F",
        "%3A%2F%2Fa%3A",
        "%253A%252F%252Fa%253A%3A%2F%2F",
        "%40",
        "%3A",
        "%25",
        "https://a1",
        "AKIA",
        "a_",
        f"ghp_{LINE}",
        "\\n",
    ],
)
def test_forms_take_linear_time(form: str, seed: str) -> None:
    """Eight times the text takes about eight times as long: a client chooses it."""

    def measure(count: int) -> float:
        text = seed * (count // len(seed))
        began = time.process_time()
        FORMS[form](text, Redactor(DEFAULT_KEYS).is_secret)
        return time.process_time() - began

    long_s = measure(400_000)
    # Most are fast enough whatever the short text takes.
    if long_s >= 40 * 0.0005:
        short_s = max(min(measure(50_000) for _ in range(3)), 0.0005)
        assert long_s < 40 * short_s or any(measure(400_000) < 40 * short_s for _ in range(2))
