"""Has a line with every field, and tokens of JSON, for the tests of the compiled rows."""

TOKENS = ['"a":1', "{", "}", "[", "]", ",", ":", '"k":', "true", "null", "0", "-1.5e9", "01", '"', "\\"]
LINE = (
    b'{"created":1795560100.645,"time":"2026-11-24T22:41:40.645000Z","name":"shop.cache","levelno":10,'
    b'"levelname":"DEBUG",'
    b'"message":"miss for key `7` \\"x\\" \\u00e9\\ud83d\\ude00 \xc3\xa9","msg":"miss for key `%d` \\"x\\"",'
    b'"pathname":"/srv/cache.py",'
    b'"filename":"cache.py",'
    b'"module":"cache","lineno":75,"funcName":"handle","process":2576,"processName":"MainProcess","thread":-13,'
    b'"threadName":"MainThread","taskName":"t","exc_text":"a\\nb","stack_info":"s","extra":{"a":[1,-2.5e+3,true,null,{}],'
    b'"b":"\\u0000\\\\","c":{"d":[]}},"truncated":["extra.a","message"],'
    b'"exception":[{"type":"KeyError","frames":[{"lineno":7},{}]},{}],"host":"web-1","service":"shop \\u00e9",'
    b'"environment":"prod","version":"2.4","peer":"10.0.0.3:40000","received":1795560100.6551237}\n'
)
