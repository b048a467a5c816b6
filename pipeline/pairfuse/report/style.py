"""Style: the page's one style sheet, for screens of any width, light and dark, and for paper."""

from __future__ import annotations

STYLE = """
:root{color-scheme:light dark;
--ink:#1b1f24;--muted:#5b6470;--grid:#dde1e6;--paper:#ffffff;--panel:#f5f6f8;--accent:#2f6493;
--c0:#2f6493;--c1:#a55818;--c2:#1f7566;--c3:#84539e;--c4:#7d6d12;
--c5:#b04a6a;--c6:#4a7d34;--c7:#5a66c4;--c8:#96604a;--c9:#2a7d97}
@media screen and (prefers-color-scheme:dark){:root{
--ink:#e6e9ed;--muted:#a0a8b3;--grid:#363c45;--paper:#14171b;--panel:#1d2126;--accent:#84b6e4;
--c0:#84b6e4;--c1:#e59a5c;--c2:#63c2ae;--c3:#c399dd;--c4:#cfbd56;
--c5:#e78fac;--c6:#94c878;--c7:#a3acf0;--c8:#d0a08b;--c9:#7cc7de}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;scroll-behavior:smooth;scroll-padding-top:1rem}
body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.6 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
font-variant-numeric:tabular-nums}
.page{max-width:1000px;margin:0 auto;padding:3.5rem 1.5rem 5rem}
a{color:var(--accent);text-underline-offset:.15em}
:focus-visible{outline:2px solid var(--accent);outline-offset:3px;border-radius:3px}
h1{font-size:clamp(2.1rem,6.5vw,3.6rem);line-height:1.08;letter-spacing:-.025em;font-weight:700;
margin:.2em 0 .5em;text-wrap:balance}
h2{font-size:1.6rem;line-height:1.2;letter-spacing:-.015em;margin:0 0 .6rem}
h3{font-size:1rem;margin:2.2rem 0 .6rem}
p{margin:0 0 .9rem;max-width:44rem;overflow-wrap:anywhere}
.over{color:var(--accent);font-weight:600;margin:0;overflow-wrap:anywhere}
.verdict>p:not(.over){font-size:1.25rem;line-height:1.5}
.verdict>p.rest.rest{font-size:1rem;line-height:1.65}
.verdict{border-bottom:1px solid var(--grid);padding-bottom:2rem}
section{padding:3.2rem 0 0}
section>p{color:var(--muted)}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(11rem,1fr));gap:1.4rem 2rem;
margin:2rem 0 1rem}
.facts div{border-top:2px solid var(--accent);padding-top:.6rem;min-width:0}
.facts dt{font-size:.85rem;color:var(--muted)}
.facts dd{margin:0}
.facts b{display:block;font-size:1.7rem;line-height:1.25;letter-spacing:-.02em;
overflow-wrap:anywhere}
.facts small{color:var(--muted);font-size:.85rem;display:block}
nav{font-size:.85rem;line-height:1.5;margin-top:2rem}
nav ul{list-style:none;margin:0;padding:0;display:flex;flex-wrap:wrap;gap:.35rem 1.1rem}
nav a{color:var(--muted);text-decoration:none}
nav a:hover{color:var(--accent)}
@media screen and (min-width:1360px){
nav{position:fixed;top:3.9rem;left:max(1.5rem,calc(50vw - 690px));width:10rem;margin:0}
nav ul{display:block;border-left:1px solid var(--grid);padding-left:1rem}
nav li{margin:.3rem 0}}
.figures{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,290px),1fr));
gap:2rem 2.2rem;margin:1.6rem 0;align-items:start}
.figures.two{grid-template-columns:repeat(auto-fill,minmax(min(100%,420px),1fr))}
figure{margin:0;min-width:0}
figcaption{font-weight:600;font-size:.95rem;margin-bottom:.5rem;overflow-wrap:anywhere}
.plot svg{display:block;max-width:100%;height:auto}
svg text{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
font-variant-numeric:tabular-nums}
details{font-size:.85rem;margin:.5rem 0}
summary{cursor:pointer;color:var(--muted);width:fit-content}
summary:hover{color:var(--accent)}
details[open]>summary{margin-bottom:.5rem}
.scroll{overflow:auto;margin:1rem 0;overscroll-behavior-x:contain}
details .scroll{max-height:34rem}
table{border-collapse:collapse;font-size:.875rem;line-height:1.4;min-width:min(100%,24rem)}
details table{font-size:.8rem;min-width:0}
th,td{padding:.45rem .75rem .45rem 0;text-align:left;vertical-align:top;
border-bottom:1px solid var(--grid)}
th:last-child,td:last-child{padding-right:.3rem}
thead th{position:sticky;top:0;background:var(--paper);color:var(--muted);font-weight:500;
vertical-align:bottom}
tbody th{font-weight:500;min-width:6.5rem;max-width:18rem;overflow-wrap:break-word}
td small{display:block;color:var(--muted);font-size:.78rem;font-weight:400}
td.long{min-width:15rem}
tbody tr:last-child>*{border-bottom:0}
td.n{white-space:nowrap}
tr.first>*{color:var(--accent);font-weight:600}
code{font:.9em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
pre{background:var(--panel);padding:1rem 1.2rem;border-radius:8px;overflow:auto;max-height:36rem;
font:.8rem/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;margin:.8rem 0}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,380px),1fr));gap:1rem;
margin:1.2rem 0 2rem}
.card{background:var(--panel);border-radius:10px;padding:1rem;display:flex;gap:1rem;min-width:0;
break-inside:avoid}
.card .thumb{flex:0 0 112px;width:112px}
.card img{width:112px;height:auto;max-height:150px;object-fit:contain;border-radius:6px;
display:block}
.card .none{height:84px;border-radius:6px;border:1px dashed var(--muted);color:var(--muted);
font-size:.75rem;line-height:1.3;display:flex;align-items:center;justify-content:center;
text-align:center;padding:.3rem}
.card .body{min-width:0;flex:1;font-size:.875rem;line-height:1.45}
.card .body p{margin:0 0 .6rem;unicode-bidi:isolate;overflow-wrap:anywhere}
.card ul{list-style:none;margin:0;padding:0;font-size:.8rem;color:var(--muted)}
.card li{overflow-wrap:anywhere}
.card li b{color:var(--ink);font-weight:600}
.card li.right b{color:var(--c2)}
.card li.wrong b{color:var(--c1)}
footer{margin-top:4rem;padding-top:1.2rem;border-top:1px solid var(--grid);color:var(--muted);
font-size:.85rem}
@media (max-width:600px){td.long{min-width:9rem}
.page{padding:2rem 1rem 3rem}section{padding-top:2.6rem}
.verdict>p:not(.over){font-size:1.12rem}.facts{grid-template-columns:1fr 1fr;gap:1.2rem}
.facts b{font-size:1.35rem}.card .thumb,.card img{width:92px;flex-basis:92px}
th,td{padding-right:.9rem}}
@media print{body{font-size:10.5pt}.page{max-width:none;padding:0}nav,.numbers{display:none}
section{padding-top:1.6rem}h2,h3,figcaption{break-after:avoid}figure,tr{break-inside:avoid}
.scroll,pre{max-height:none;overflow:visible}pre{white-space:pre-wrap;overflow-wrap:anywhere}
table{font-size:8pt}td small{font-size:6.5pt}td.long{min-width:0}
th,td{padding:.25rem .5rem .25rem 0}.cards{grid-template-columns:1fr 1fr}
.figures,.figures.two{grid-template-columns:1fr 1fr;gap:1rem 1.5rem;margin:1rem 0}
.facts{grid-template-columns:repeat(4,1fr);gap:1rem}.facts b{font-size:1.3rem}
details::details-content{content-visibility:visible;display:block}
thead th{position:static}a{color:inherit;text-decoration:none}}
"""
