"""The style of the page that `tollkeeper whatif --html` writes."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root{--paper:#fff;--ground:#f5f6f8;--ink:#1a1d23;--soft:#5c6470;--line:#dfe3e8;
--c0:#2f6fde;--c1:#12908a;--c2:#c97a10;--c3:#8b5bd0;--c4:#cf4a4a;--c5:#6a8f1c;--plain:#56708f;--quiet:#c3c9d2}
@media (prefers-color-scheme:dark){:root{--paper:#1b1f26;--ground:#12151a;--ink:#e8eaee;--soft:#9aa3b0;--line:#313843;
--c0:#6da0f5;--c1:#41bdb5;--c2:#e6a548;--c3:#b593ee;--c4:#ee8080;--c5:#a3c652;--plain:#8aa5c6;--quiet:#4b5462}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
main{max-width:980px;margin:0 auto;padding:32px 20px 48px}
header p{margin:2px 0;color:var(--soft)}
h1{font-size:28px;line-height:1.2;margin:0 0 10px;letter-spacing:-.01em}
header .files{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:14px;overflow-wrap:anywhere;color:var(--ink)}
h2{font-size:18px;margin:0 0 4px}
section,.card{background:var(--paper);border:1px solid var(--line);border-radius:10px}
section{padding:20px 22px;margin-top:18px}
section>ul{margin:8px 0 0;padding-left:20px;color:var(--soft)}
section li+li{margin-top:4px}
.under-heading{margin:0 0 6px;color:var(--soft)}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(210px,1fr));gap:14px;margin-top:14px}
.card{padding:16px 18px;border-top:4px solid var(--c0)}
.card.b1{border-top-color:var(--c1)}.card.b2{border-top-color:var(--c2)}.card.b3{border-top-color:var(--c3)}
.card.b4{border-top-color:var(--c4)}.card.b5{border-top-color:var(--c5)}
h3{margin:0;font-size:15px;color:var(--soft);font-weight:600;overflow-wrap:anywhere}
.sum{margin:2px 0 10px;font-size:26px;line-height:1.3;font-weight:650}
.sum{font-variant-numeric:tabular-nums;letter-spacing:-.01em;overflow-wrap:anywhere}
.sum small{font-size:14px;font-weight:500;color:var(--soft)}
dl{margin:0;font-size:14px}
dl div{display:flex;justify-content:space-between;gap:12px;padding:3px 0;border-top:1px solid var(--line)}
dt{color:var(--soft)}dd{margin:0;font-variant-numeric:tabular-nums;text-align:right}
.card.best{margin-top:22px;border-top-color:var(--plain)}.best .sum{margin-bottom:2px}.best p:last-child{margin:0;color:var(--soft)}
figure{margin:10px 0 0}
.chart,.wide{overflow-x:auto}
svg{display:block;width:100%;min-width:560px;height:auto;font:12px system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
svg text{fill:var(--soft);font-variant-numeric:tabular-nums}
svg .name,svg .value{fill:var(--ink);font-size:14px}
.grid{stroke:var(--line);stroke-width:1}
.c0{fill:var(--c0);background:var(--c0)}.c1{fill:var(--c1);background:var(--c1)}.c2{fill:var(--c2);background:var(--c2)}
.c3{fill:var(--c3);background:var(--c3)}.c4{fill:var(--c4);background:var(--c4)}.c5{fill:var(--c5);background:var(--c5)}
.plain{fill:var(--plain);background:var(--plain)}
.quiet{fill:var(--quiet);background:var(--quiet)}
svg .line{fill:none;stroke-width:2;stroke-linejoin:round}svg .under{opacity:.14}
.line.plain{stroke:var(--plain)}
.line.c0{stroke:var(--c0)}.line.c1{stroke:var(--c1)}.line.c2{stroke:var(--c2)}
.line.c3{stroke:var(--c3)}.line.c4{stroke:var(--c4)}.line.c5{stroke:var(--c5)}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;list-style:none;margin:0 0 6px;padding:0;font-size:14px;color:var(--soft)}
.legend li{margin:0}.legend i{display:inline-block;width:11px;height:11px;border-radius:2px;margin-right:6px}
table{border-collapse:collapse;width:100%;font-size:14px;margin-top:10px}
th,td{padding:6px 14px 6px 0;text-align:left;border-top:1px solid var(--line);vertical-align:top}
thead th{border-top:0;color:var(--soft);font-weight:600;white-space:nowrap}
th:last-child,td:last-child{padding-right:0}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.n+td:not(.n),.n+th:not(.n){padding-left:12px}
.who{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:13px;white-space:nowrap}
td small{color:var(--soft)}
footer{margin-top:22px;color:var(--soft);font-size:14px}
@media print{body{background:#fff}section,.card{break-inside:avoid}}
"""
