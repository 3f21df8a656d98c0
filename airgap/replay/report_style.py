"""The style sheet of the report's page: light, dark and paper; nothing is said by colour alone."""

STYLE = """\
:root{color-scheme:light dark;--ink:#1a1d21;--soft:#4a525c;--line:#c9ced6;--paper:#fff;--band:#f3f5f8;\
--bar:#0b5fa5;--left:#a23b00;--gap:#6b7280}
@media (prefers-color-scheme:dark){:root{--ink:#e8eaed;--soft:#b3bac4;--line:#454c56;--paper:#16191d;\
--band:#20252b;--bar:#6cb2f0;--left:#ffb077;--gap:#9aa3ae}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:62rem;padding:1.5rem 1rem 3rem;background:var(--paper);color:var(--ink);\
font:1rem/1.5 system-ui,sans-serif}
h1{font-size:1.6rem;line-height:1.2;margin:0 0 .5rem}
h2{font-size:1.2rem;margin:2.2rem 0 .5rem;border-bottom:1px solid var(--line);padding-bottom:.25rem}
h3{font-size:1rem;margin:1.4rem 0 .3rem;overflow-wrap:anywhere}
p{margin:.4rem 0}
.soft{color:var(--soft)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.9rem}
caption{text-align:left;color:var(--soft);padding:.2rem 0}
th,td{text-align:left;padding:.25rem .6rem .25rem 0;border-bottom:1px solid var(--line);\
vertical-align:top;font-weight:400}
thead th{font-weight:600}
.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.cause h3{margin-top:.2rem}
.cause{border-left:.3rem solid var(--left);padding:.1rem 0 .1rem .8rem;margin:1rem 0;overflow-wrap:anywhere}
figure{margin:0 0 1.5rem}
figcaption{overflow-wrap:anywhere}
svg{display:block;width:100%;height:7.5rem;background:var(--band)}
.bar{fill:var(--bar)}
.left{stroke:var(--left);fill:url(#left)}
.gap{stroke:var(--gap);stroke-dasharray:3 3;fill:url(#gap)}
.lines{stroke:var(--left);stroke-width:3}
.dots{fill:var(--gap)}
.axis{display:flex;justify-content:space-between;color:var(--soft);font-size:.85rem}
.key svg{display:inline-block;width:1.4rem;height:.9rem;vertical-align:-.1rem;margin-right:.3rem}
.key{display:flex;flex-wrap:wrap;gap:0 1.2rem}
.key span{white-space:nowrap}
th{white-space:nowrap}
summary{cursor:pointer}
:focus-visible{outline:3px solid var(--bar);outline-offset:2px}
@media print{body{max-width:none;padding:0;font-size:10pt}
:root{--ink:#000;--soft:#333;--line:#999;--paper:#fff;--band:#fff;--bar:#333;--left:#000;--gap:#555}
details::details-content{content-visibility:visible;block-size:auto}
svg,.bar{print-color-adjust:exact}
figcaption,svg,.cause,tr{break-inside:avoid}
figcaption,svg{break-after:avoid}
h2,h3{break-after:avoid}.scroll{overflow:visible}}
"""
