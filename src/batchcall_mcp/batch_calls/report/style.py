"""The style sheet of the report: on a screen by day and by night, on a phone, on A4 and Letter."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root{color-scheme:light dark;--ink:#16191f;--soft:#565d6b;--paper:#fff;--desk:#f3f4f6;--line:#e1e4e9;--panel:#f8f9fa;
--reached:#0f766e;--missed:#c2610c;--rest:#7d8796;--note:#fdf3e1;--note-line:#d9a441}
@media screen and (prefers-color-scheme:dark){:root{--ink:#e9ecf1;--soft:#a7afbd;--paper:#181b21;--desk:#0f1115;
--line:#313640;--panel:#1f232b;--reached:#35b3a4;--missed:#ee9a4d;--rest:#8490a3;--note:#2c2618;--note-line:#a67c2a}}
*{box-sizing:border-box}
body{margin:0;background:var(--desk);color:var(--ink);
font:1rem/1.5 -apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;overflow-wrap:anywhere}
main{max-width:54rem;margin:2.5rem auto;padding:3.25rem 3.5rem 2.5rem;background:var(--paper);
border:1px solid var(--line);border-radius:.75rem}
h1,h2,p,dl,dd,figure{margin:0}
.name{color:var(--soft);font-weight:600}
.name span{display:block;font-size:.8rem;font-weight:600;letter-spacing:.09em;text-transform:uppercase;
color:var(--reached);margin-bottom:.25rem}
h1{font-size:2.35rem;line-height:1.15;letter-spacing:-.02em;margin:.35rem 0 .6rem;text-wrap:balance}
.lead{font-size:1.1rem;color:var(--soft);max-width:42rem}
.who{margin-top:.35rem;color:var(--soft);font-size:.95rem}
.note{margin-top:1.25rem;padding:.7rem 1rem;background:var(--note);border-left:.25rem solid var(--note-line);
border-radius:.25rem}
svg{display:block;width:100%}
rect{fill:var(--rest)}rect.reached{fill:var(--reached)}rect.missed{fill:var(--missed)}
.whole{height:.85rem;margin:1.75rem 0 .75rem;border-radius:.5rem;overflow:hidden;background:var(--line)}
.legend{list-style:none;margin:0;padding:0;display:flex;flex-wrap:wrap;gap:.25rem 1.75rem;font-size:.95rem}
.legend li{display:flex;align-items:center;gap:.5rem}
.legend svg{width:.75rem;height:.75rem;border-radius:.2rem;flex:none;overflow:hidden}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(7.75rem,1fr));gap:1.25rem 1.5rem;margin-top:2.5rem}
.figures div{border-top:2px solid var(--line);padding-top:.75rem}
.figures dt{font-size:.9rem;color:var(--soft)}
.figures dd{font-size:1.6rem;font-weight:650;line-height:1.25;letter-spacing:-.01em}
.figures dd+dd{font-size:.9rem;font-weight:400;color:var(--soft);letter-spacing:0;line-height:1.45;margin-top:.15rem}
section{margin-top:3rem}
h2{font-size:1.2rem;letter-spacing:-.01em;line-height:1.3;margin-bottom:.25rem}
.hint{color:var(--soft);font-size:.95rem;margin-bottom:1rem}
table{width:100%;border-collapse:collapse;font-size:.95rem}
caption{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
th,td{text-align:left;font-weight:400;padding:.5rem .75rem .5rem 0;border-bottom:1px solid var(--line);
vertical-align:top}
th:last-child,td:last-child{padding-right:0}
thead th,thead td{font-size:.85rem;color:var(--soft);padding-top:0}
.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.share{color:var(--soft)}thead .share{color:var(--soft)}
.bars tbody th{width:30%}
.bars .bar{width:45%;vertical-align:middle}
.bars .bar svg{height:.8rem}
.bars .number{width:12%}
.plot{display:grid;grid-template-columns:auto 1fr;column-gap:.75rem;font-size:.8rem;color:var(--soft);line-height:1.25}
.scale{display:flex;flex-direction:column;justify-content:space-between;text-align:right;margin:-.6em 0;
font-variant-numeric:tabular-nums}
.columns{height:11rem;overflow:visible}
.columns line{stroke:var(--line);stroke-width:1}
.below{grid-column:2;display:flex;margin-top:.4rem}
.below span{flex:1;font-variant-numeric:tabular-nums}
.below small{font-size:1em}
.plot+.legend{margin:.75rem 0 0}
details{margin-top:1rem}
summary{cursor:pointer;font-size:.95rem;color:var(--soft);width:fit-content;border-radius:.25rem}
summary:focus-visible{outline:3px solid var(--reached);outline-offset:3px}
details table{margin-top:.75rem;max-width:30rem}
.people{table-layout:fixed}
.tel,.when{font-variant-numeric:tabular-nums}.people .tel{width:21%}.people .dials{width:8%}.people .when{width:19%}
.people .when{padding-left:1rem}
.why{color:var(--soft);font-size:.9rem;display:block}
.facts{display:grid;margin-top:.85rem;grid-template-columns:max-content 1fr;gap:.4rem 1.75rem;font-size:.95rem}
.facts dt{color:var(--soft)}
.unknown ul{margin:.25rem 0 0;padding-left:1.15rem}
.unknown li{margin:.2rem 0}
footer{margin-top:3rem;padding-top:1rem;border-top:1px solid var(--line);font-size:.85rem;color:var(--soft)}
@media (max-width:46rem){main{margin:0;padding:1.75rem 1.15rem;border:0;border-radius:0}h1{font-size:1.75rem}
.figures{grid-template-columns:repeat(auto-fit,minmax(8rem,1fr))}
.bars tbody th{width:34%}.bars .bar{width:26%}.facts{grid-template-columns:1fr;gap:0}.facts dd{margin-bottom:.5rem}
th,td{padding-right:.5rem}.people{font-size:.85rem}.people .dials{display:none}
.people .tel{width:31%}.people .when{width:22%;padding-left:0}}
@page{margin:16mm 15mm}
@media print{body{background:none;font-size:10pt;print-color-adjust:exact;-webkit-print-color-adjust:exact}
main{max-width:none;margin:0;padding:0;border:0}h1{font-size:22pt}.figures dd{font-size:15pt}
section{margin-top:2rem}.figures{margin-top:1.75rem;gap:1rem;
grid-template-columns:repeat(auto-fit,minmax(6.5rem,1fr))}h2,.hint{break-after:avoid}
.figures,.plot,.legend,.bars,.facts,.unknown li,tr{break-inside:avoid}thead{display:table-header-group}
details:not([open]){display:none}summary{display:none}.columns{height:9rem}}
@media (forced-colors:active){
rect,rect.reached{fill:CanvasText}rect.missed{fill:GrayText}.columns line{stroke:GrayText}}
"""
