"""Names that try to be more than names, in every medium in which residuum shows one."""

PAYLOADS = (
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "</title><svg onload=alert(1)>", "\"><b id='x'>", "&lt;b&gt;",
    "{{ 7 * 7 }}", "{% raw %}", "javascript:alert(1)", "[a](javascript:alert(1))", "![a](http://example.org/x.png)",
    "# heading", "`code`", "| cell |", "**bold** _it_ ~~out~~", "[b]x[/b]", "a[/b]", "[link=http://example.org]x[/link]",
    ":smiley:", "$x$", "$\\frac{1}$", "$unclosed", "\\input{/etc/passwd}", "\\end{table}", "%comment", "=cmd|'/c calc'!A1",
    "+1+1", "@SUM(A1)", " =1+1", "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x9b2J", "a\rb", "tab\tbed", "\u202eright", "\u2066in\u2069",
    "in\u200bvisible", "\ufeffbom", "../../x", "C:\\x", "x\u2028y",
)  # fmt: skip
