"""How pages look: light, dark and on paper. One style sheet, whose digest stands in each page."""

STYLE = """
:root {
  color-scheme: light dark;
  --ground: #ffffff; --raised: #f4f6f8; --ink: #16191d; --soft: #4d5661; --line: #c9d0d8;
  --accent: #0b5394; --bar: #2a6db0; --gap: #8a4b00; --warn: #7a3e00; --warn-ground: #fff3e0;
  --good: #14532d; --good-ground: #e8f5ec;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #14171b; --raised: #1d2228; --ink: #e7eaee; --soft: #aab4bf; --line: #3b444e;
    --accent: #8cc4ff; --bar: #6aa9e6; --gap: #f0b060; --warn: #ffd199; --warn-ground: #3a2a12;
    --good: #a8e6bd; --good-ground: #16301f;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; max-width: 62rem; padding: 1.5rem 1.25rem 4rem; background: var(--ground);
  color: var(--ink); font: 1rem/1.5 system-ui, "Segoe UI", "Liberation Sans", sans-serif;
}
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .75rem; }
h2 { font-size: 1.25rem; line-height: 1.3; margin: 2.5rem 0 .75rem; padding-top: .75rem;
  border-top: 2px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.75rem 0 .5rem; }
h4 { font-size: 1rem; margin: 1.25rem 0 .25rem; }
h1, h2, h3, h4, p, li, dd, td, th, summary, figcaption, span { overflow-wrap: anywhere; }
p { margin: .5rem 0; max-width: 46rem; }
a { color: var(--accent); }
a:focus-visible, summary:focus-visible, .scroll:focus-visible {
  outline: 3px solid var(--accent); outline-offset: 2px; }
main:focus { outline: none; }
code { font: .9em/1.4 ui-monospace, "Liberation Mono", monospace; overflow-wrap: anywhere; }
.kicker { color: var(--soft); margin: 0 0 .25rem; font-size: .9rem; }
.soft { color: var(--soft); }
.lead { font-size: 1.1rem; }
.skip { position: absolute; left: -100rem; }
.skip:focus { position: static; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; padding: 0; margin: 1rem 0 0;
  list-style: none; }
nav a { display: inline-block; padding: .25rem 0; }
dl { margin: .75rem 0; }
dl > div { display: grid; grid-template-columns: 11rem 1fr; gap: 0 1rem; padding: .3rem 0;
  border-bottom: 1px solid var(--line); }
dt { color: var(--soft); }
dd { margin: 0; }
.scroll { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; width: 100%; font-size: .95rem; }
caption { text-align: left; color: var(--soft); padding: 0 0 .35rem; font-size: .9rem; }
th, td { text-align: left; vertical-align: top; padding: .35rem .75rem .35rem 0;
  border-bottom: 1px solid var(--line); font-weight: normal; }
thead th { color: var(--soft); font-size: .85rem; border-bottom: 2px solid var(--line); }
tbody th { font-weight: 600; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tbody th { min-width: 9rem; }
.wide tbody th { min-width: 14rem; }
.wide td:nth-child(2) { min-width: 14rem; }
.wide td:last-child { min-width: 13rem; }
.small table { font-size: .85rem; width: auto; min-width: 20rem; }
.mark { display: inline-block; border: 1px solid; border-radius: .25rem; padding: 0 .4rem;
  font-size: .8rem; line-height: 1.5; margin: 0 .25rem .1rem 0; color: var(--soft); }
.mark.warn { color: var(--warn); background: var(--warn-ground); font-weight: 600; }
.mark.good { color: var(--good); background: var(--good-ground); }
.note, .alert { border-left: 4px solid var(--line); background: var(--raised); padding: .5rem 1rem;
  margin: 1rem 0; }
.alert { border-left-color: var(--gap); background: var(--warn-ground); color: var(--warn); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .75rem;
  margin: 1rem 0; padding: 0; list-style: none; }
.figures li { background: var(--raised); padding: .6rem .9rem; border-radius: .4rem; }
.figures strong { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.figures span { color: var(--soft); font-size: .85rem; }
details { margin: .5rem 0; }
summary { cursor: pointer; color: var(--accent); padding: .15rem 0; }
.values { columns: 18rem; padding-left: 1.25rem; margin: .5rem 0; font-size: .9rem; }
figure { margin: 1rem 0 1.5rem; }
figcaption { font-weight: 600; margin-bottom: .25rem; }
figcaption span { font-weight: normal; color: var(--soft); }
svg { display: block; }
.plot { width: 100%; height: 8rem; background: var(--raised); }
.plot .bar, .share .bar { fill: var(--bar); }
.plot .band { fill: none; stroke: var(--gap); stroke-width: 1.5; }
.plot .hatch { stroke: var(--gap); stroke-width: 2; }
.plot .base { stroke: var(--soft); stroke-width: 1; }
.axis { display: flex; justify-content: space-between; color: var(--soft); font-size: .8rem; }
.share { width: 8rem; height: .8rem; background: var(--raised); margin-top: .35rem; }
footer { margin-top: 3rem; border-top: 2px solid var(--line); padding-top: .75rem;
  color: var(--soft); font-size: .9rem; }
.looks, .few { padding-left: 1.1rem; margin: .25rem 0; }
.looks li { margin: .4rem 0; }
.slip th, .slip td { border: 1px solid var(--soft); padding: .35rem .5rem; }
.slip .room > * { height: 3.6rem; }
.slip .room td { min-width: 7rem; }
.blank { display: block; height: 1.5rem; }
.identity { display: flex; flex-wrap: wrap; gap: 1rem 2rem; align-items: flex-start; }
.identity > div { flex: 1 1 18rem; }
.identity h3 { margin-top: .75rem; }
.qr { width: 9rem; height: 9rem; background: #ffffff; }
.qr path { stroke: #000000; }
.digest { font: 1.05rem/1.7 ui-monospace, "Liberation Mono", monospace; word-spacing: .3em; }
@media (max-width: 40rem) {
  body { padding: 1rem .9rem 3rem; }
  dl > div { grid-template-columns: 1fr; }
}
@page { size: A4; margin: 15mm; }
@media print {
  :root { --ground: #ffffff; --raised: #f2f2f2; --ink: #000000; --soft: #333333; --line: #999999;
    --accent: #000000; --bar: #444444; --gap: #000000; --warn: #000000; --warn-ground: #ffffff;
    --good: #000000; --good-ground: #ffffff; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  h1 { font-size: 16pt; }
  h2 { font-size: 12pt; margin-top: 1.4rem; padding-top: .5rem; }
  p { margin: .25rem 0; }
  dl > div { padding: .15rem 0; }
  nav, .skip { display: none; }
  h2, h3, h4, figcaption, caption { break-after: avoid; }
  figure, tr, dl > div { break-inside: avoid; }
  .scroll { overflow: visible; }
  tbody th, .wide tbody th, .wide td:nth-child(2), .wide td:last-child, .slip .room td { min-width: 0; }
  .wide table { font-size: 8pt; table-layout: fixed; }
  .wide th:nth-child(1) { width: 24%; }
  .wide th:nth-child(2) { width: 27%; }
  .wide th:nth-child(3) { width: 9%; }
  .wide th:nth-child(4) { width: 11%; }
  .number { white-space: normal; overflow-wrap: normal; word-break: normal; }
  .slip .room > * { height: 15mm; }
  .slip { table-layout: fixed; width: 99%; }
  .slip td, .slip th { min-width: 0; width: 20%; }
  .values { columns: auto; padding-left: 0; margin: .1rem 0; font-size: 8pt; }
  .values li { display: inline; }
  .values li:not(:last-child)::after { content: ", "; }
  .small { columns: 3; }
  .small table { min-width: 0; font-size: 7.5pt; }
  .small th, .small td { padding: 0 .4rem 0 0; border: 0; }
  summary { list-style: none; }
  details::details-content { content-visibility: visible; display: block; }
  .plot, .share, .mark { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
