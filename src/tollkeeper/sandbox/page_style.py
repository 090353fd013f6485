"""The look of the page at `/`, which is denser than the pages for customers."""

from __future__ import annotations

from html import escape
from typing import Final

STYLE: Final = """
:root{--paper:#fff;--ground:#f5f6f8;--ink:#1a1d23;--soft:#5c6470;--line:#dfe3e8;--accent:#4f46e5;--accent-ink:#fff;
--good:#12715b;--good-ground:#e3f5ef;--warn:#8a5300;--warn-ground:#fdf1dc;--bad:#a62b2b;--bad-ground:#fbe7e7;--quiet:#eceff3}
@media (prefers-color-scheme:dark){:root{--paper:#1b1f26;--ground:#12151a;--ink:#e8eaee;--soft:#9aa3b0;--line:#313843;--accent:#8b85f7;

--accent-ink:#12151a;--good:#6fd6b6;--good-ground:#16352d;--warn:#eab968;--warn-ground:#382a12;--bad:#f09a9a;--bad-ground:#3d1d1d;--quiet:#272d36}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
main{max-width:1120px;margin:0 auto;padding:28px 20px 56px}
h1{font-size:24px;line-height:1.2;margin:0;letter-spacing:-.01em}
h2{font-size:16px;margin:0;display:flex;justify-content:space-between;align-items:baseline;gap:12px}
h2 a{font-size:13px;font-weight:500}
a{color:var(--accent);text-decoration:none}a:hover{text-decoration:underline}
code,.id{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:13px}
.id{color:var(--soft);white-space:nowrap}
header{display:flex;flex-wrap:wrap;gap:12px 24px;justify-content:space-between;align-items:flex-end}
header p{margin:4px 0 0;color:var(--soft)}
.clock{font-variant-numeric:tabular-nums;text-align:right}.clock strong{font-size:18px;display:block}
form{display:inline-flex;flex-wrap:wrap;gap:6px;margin:8px 0 0}
button{font:inherit;font-size:13px;font-weight:550;padding:5px 11px;border-radius:7px;border:1px solid var(--line);background:var(--paper);
color:var(--ink);cursor:pointer}
button:hover{border-color:var(--accent)}:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(140px,1fr));gap:12px;margin:20px 0 0}
.tile,section{background:var(--paper);border:1px solid var(--line);border-radius:10px}
.tile{padding:12px 16px}.tile b{display:block;font-size:24px;line-height:1.25;font-variant-numeric:tabular-nums}
.tile span{color:var(--soft)}
section{padding:16px 20px;margin-top:16px;overflow-x:auto}
.two{display:grid;grid-template-columns:repeat(auto-fit,minmax(430px,1fr));gap:0 16px;align-items:start}
.two>*{min-width:0}
table{border-collapse:collapse;width:100%;font-size:14px;margin-top:8px}
th,td{padding:6px 14px 6px 0;text-align:left;border-top:1px solid var(--line);vertical-align:top}
th{border-top:0;color:var(--soft);font-weight:600;font-size:13px;white-space:nowrap}
th:last-child,td:last-child{padding-right:0}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.any,code{overflow-wrap:anywhere}
.none{color:var(--soft);margin:8px 0 0}
.mark{display:inline-block;padding:0 8px;border-radius:99px;font-size:12.5px;font-weight:550;background:var(--quiet);color:var(--soft);
white-space:nowrap}
.mark.good{background:var(--good-ground);color:var(--good)}.mark.warn{background:var(--warn-ground);color:var(--warn)}
.mark.bad{background:var(--bad-ground);color:var(--bad)}
footer{margin-top:20px;color:var(--soft);font-size:13px}
@media (max-width:640px){main{padding:20px 12px 40px}.two{grid-template-columns:minmax(0,1fr)}.clock{text-align:left}
section{padding:14px 16px}
.tiles{grid-template-columns:1fr 1fr}.tile{padding:10px 14px}
thead{display:none}tbody,tr,td{display:block}tr{border-top:1px solid var(--line);padding:7px 0}tr:first-child{border-top:0}
td,td.n{border:0;padding:1px 0;display:flex;justify-content:space-between;gap:16px;text-align:left;white-space:normal}
td::before{content:attr(data-is);color:var(--soft);font-size:13px;flex:none}td>span{min-width:0;overflow-wrap:anywhere;text-align:right}
td:first-child{font-weight:600}td:first-child::before{content:none}td:first-child>span{text-align:left}
td:has(>span:empty){display:none}.id{white-space:normal}}
"""

_GOOD = frozenset({"active", "paid", "succeeded", "complete", "enabled", "trialing", "won", "200"})
_WARN = frozenset({"open", "past_due", "incomplete", "requires_action", "draft", "paused", "pending", "processing"})
_BAD = frozenset({"unpaid", "uncollectible", "failed", "incomplete_expired", "lost", "needs_response"})


def mark(text: str) -> str:
    """A status as a coloured label."""
    kind = " good" if text in _GOOD else " warn" if text in _WARN else " bad" if text in _BAD else ""
    return f'<span class="mark{kind}">{escape(text.replace("_", " "))}</span>'
