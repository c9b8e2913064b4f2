/** The page's only style sheet: system fonts, both themes, from 320 px up. */
export const STYLE = `
:root{color-scheme:light dark;--page:#f7f7f5;--card:#fff;--line:#dfdfda;--faint:#ececea;--ink:#1c1d20;--muted:#575b63;--original:#b4b8c0;--rewritten:#2463bd;--second:#b05a10;--third:#7b4bb3;--good:#1a6e34;--bad:#b02318;--doubt:#7d5200;--good-bg:#e6f3ea;--bad-bg:#fbe9e7;--doubt-bg:#fbf1dc;--veil:rgba(70,72,78,.82);--edge:rgba(255,255,255,.9)}
@media (prefers-color-scheme:dark){:root{--page:#131417;--card:#1b1d21;--line:#34373d;--faint:#26292e;--ink:#e8e9ec;--muted:#a9aeb8;--original:#5d626c;--rewritten:#6fa8f5;--second:#e6a15a;--third:#bf9cee;--good:#6cc98a;--bad:#ff9387;--doubt:#e2b556;--good-bg:#17301f;--bad-bg:#3a1c19;--doubt-bg:#33280f;--veil:rgba(58,60,66,.82)}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
.page{max-width:1120px;margin:0 auto;padding:28px 24px 56px}
h1{font-size:1.6rem;line-height:1.25;margin:0 0 10px;overflow-wrap:anywhere}
h1 small{display:block;font-size:1rem;font-weight:400;color:var(--muted)}
h2{font-size:1.15rem;line-height:1.3;margin:0 0 12px}
h3{font-size:1rem;margin:24px 0 8px}
h4{font-size:.9rem;margin:16px 0 6px}
h3 small,table small{font-weight:400;color:var(--muted)}
p{margin:0 0 10px}
code{font:.88em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
.kicker{margin:0 0 4px;color:var(--muted);font-size:.85rem}
.lead{font-size:1.05rem}
.note,.axis{color:var(--muted);font-size:.88rem;max-width:46rem}
.axis{margin:-2px 0 8px;padding-left:58px;max-width:none;text-align:center;font-size:.78rem}
.card{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:20px 22px;margin:20px 0}
.badge{display:inline-block;padding:1px 10px;border-radius:5px;margin-right:4px}
.badge.good{background:var(--good-bg)}.badge.bad{background:var(--bad-bg)}.badge.doubt{background:var(--doubt-bg)}
.state{white-space:nowrap;font-weight:600}
.state.good{color:var(--good)}.state.bad{color:var(--bad)}.state.doubt{color:var(--doubt)}
.callout{border:1px solid var(--line);border-radius:6px;padding:9px 13px;background:var(--doubt-bg);overflow-wrap:anywhere}
.callout strong{color:var(--doubt);margin-right:4px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:20px 0}
.tile{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:12px 14px;display:flex;flex-direction:column}
.tile .state{white-space:normal}
.tile.bad{border-color:var(--bad);background:var(--bad-bg)}.tile.doubt{border-color:var(--doubt);background:var(--doubt-bg)}
.tile.bad .value{color:var(--bad)}.tile.doubt .value{color:var(--doubt)}
.tile.bad .detail,.tile.bad .name,.tile.doubt .detail,.tile.doubt .name{color:var(--ink)}
.tile .name,.tile .detail{color:var(--muted);font-size:.82rem}
.tile .value{font-size:1.5rem;font-weight:600;line-height:1.3;font-variant-numeric:tabular-nums}
.tile .value small{font-size:.8rem;font-weight:400;color:var(--muted)}
.findings{margin:0;padding-left:20px}
.findings li{margin:0 0 7px;overflow-wrap:anywhere}
nav{display:flex;flex-wrap:wrap;gap:4px 18px;margin:0 2px;font-size:.9rem}
a{color:var(--rewritten)}
a:focus-visible,summary:focus-visible,.scroll:focus-visible{outline:2px solid var(--rewritten);outline-offset:2px}
.scroll{overflow-x:auto;margin:0 0 10px}
table{border-collapse:collapse;width:100%;font-size:.88rem;font-variant-numeric:tabular-nums}
th,td{padding:6px 12px 6px 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--faint)}
th:last-child,td:last-child{padding-right:0}
thead th{color:var(--muted);font-weight:500;border-bottom-color:var(--line);vertical-align:bottom}
tbody th{font-weight:400}
tbody tr:last-child>*{border-bottom:0}
.num{text-align:right;white-space:nowrap}
.none{color:var(--muted)}
.nowrap{white-space:nowrap}
dl{display:grid;grid-template-columns:max-content 1fr;gap:5px 16px;margin:8px 0 0;font-size:.88rem}
dt{color:var(--muted)}dd{margin:0;overflow-wrap:anywhere}
details{margin:6px 0 0}
summary{cursor:pointer;color:var(--muted);font-size:.88rem;padding:4px 0}
details>.scroll{margin-top:6px}
figure{margin:12px 0}
figcaption{font-size:.88rem;font-weight:600;margin-bottom:10px}
.two,.three{display:grid;gap:4px 36px}
.two>*,.three>*{min-width:0}
@media (min-width:760px){.two{grid-template-columns:1fr 1fr}.three{grid-template-columns:repeat(3,1fr)}}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;font-size:.84rem;color:var(--muted);margin:0 0 8px}
.legend span{display:inline-flex;align-items:center;gap:6px}
.legend svg{flex:none;overflow:visible}
.plot{padding:8px 8px 0 58px}
.plot svg{overflow:visible}
.plot>svg{display:block;width:100%}
.plot.wide{padding-right:22px;padding-left:66px}
.tick{font-size:11px;fill:var(--muted);font-variant-numeric:tabular-nums}
.tick.strong{fill:var(--ink);font-weight:600;paint-order:stroke;stroke:var(--card);stroke-width:4px;stroke-linejoin:round}
.grid,.rail{stroke:var(--faint);stroke-width:1}
.boundary{stroke:var(--ink);stroke-width:1.25;stroke-dasharray:3 3;opacity:.75}
.original{fill:var(--original)}.rewritten{fill:var(--rewritten)}.second{fill:var(--second)}.third{fill:var(--third)}
.series{stroke-width:1.5;opacity:.7}
.series.original{stroke:var(--original)}.series.rewritten{stroke:var(--rewritten)}.series.second{stroke:var(--second)}.series.third{stroke:var(--third)}
.chosen{fill:none;stroke:var(--ink);stroke-width:1.75}
.ideal{fill:none;stroke:var(--muted);stroke-width:1.25;stroke-dasharray:3 2}
.baseline{fill:var(--card);stroke:var(--muted);stroke-width:1.25}.series.baseline{stroke-dasharray:4 3;opacity:.8}
.lambda{font-size:10px;fill:var(--muted);paint-order:stroke;stroke:var(--card);stroke-width:3px;stroke-linejoin:round}
.hit{fill:transparent}
g:hover>.hit{fill:var(--ink);fill-opacity:.07}
.bars{display:grid;gap:7px;margin-bottom:10px}
.bar{display:grid;grid-template-columns:5.2rem 1fr 4.6rem;gap:10px;align-items:center;font-size:.86rem}
.bar svg{display:block;width:100%;overflow:visible}
.bar .amount{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.bar .name{color:var(--muted)}
.whisker{stroke:var(--ink);stroke-width:1.25}
.gallery{display:grid;gap:8px 36px}
.gallery>*{min-width:0}
@media (min-width:760px){.gallery{grid-template-columns:1fr 1fr}}
.maps{border-top:1px solid var(--faint);padding-top:2px}
.maps h3{margin-top:12px}
.boundaries{display:grid;grid-template-columns:repeat(auto-fill,minmax(136px,1fr));gap:8px 16px}
.map{margin:4px 0}
.map figcaption{font-weight:400;margin-bottom:6px}
.map small{color:var(--muted)}
.look{display:grid;gap:4px 28px}.look h2{margin:0 0 6px}
@media (min-width:760px){.look{grid-template-columns:minmax(180px,1fr) 2fr}}
.panels{display:flex;flex-wrap:wrap;gap:10px;align-items:flex-start}
.patches{display:block;width:100%;max-width:220px;height:auto;overflow:hidden;border-radius:3px;shape-rendering:crispEdges}
.kept{fill:var(--rewritten)}.kept.clear{fill:none}.dropped{fill:var(--faint);stroke:none}
.outline{fill:none;stroke:var(--ink);stroke-width:1.5;vector-effect:non-scaling-stroke}.pictured .outline{stroke:var(--edge)}
.hatch{stroke:var(--muted);stroke-width:.1;opacity:.8}.said{margin:2px 0 8px}.said q{font-weight:600}
.legend .dropped{stroke:var(--line)}
.veil{fill:var(--veil)}
.patches .tiles{fill:none;stroke:var(--page);stroke-width:2;vector-effect:non-scaling-stroke}
.store{position:absolute}
footer{color:var(--muted);font-size:.84rem;margin-top:24px}
@media (max-width:560px){.page{padding:18px 14px 40px}.card{padding:16px 14px}.tiles{grid-template-columns:1fr 1fr;gap:8px}h1{font-size:1.3rem}dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:8px}.boundaries{grid-template-columns:repeat(auto-fill,minmax(92px,1fr));gap:8px 12px}.bar{grid-template-columns:4.6rem 1fr 4.2rem}}
@media (max-width:560px){
table{font-size:.84rem}
th,td{padding-right:7px}
tbody th{min-width:4.6rem}
.scroll:not(.stack) th:first-child{position:sticky;left:0;background:var(--card)}
.num small{display:block}
.stack thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
.stack table,.stack tbody,.stack tr,.stack th,.stack td{display:block}
.stack tr{border-bottom:1px solid var(--line);padding:7px 0}
.stack tbody tr:last-child{border-bottom:0}
.stack th,.stack td{border:0;padding:2px 0}
.stack tbody th{font-weight:600}
.stack .num{display:flex;justify-content:flex-end;gap:6px;white-space:normal}
.stack .num small{display:inline}
.stack td[data-label]:not(.num){color:var(--ink)}
.stack td[data-label]::before{content:attr(data-label);color:var(--muted);margin-right:10px}
.stack td.num::before{margin-right:auto}
.stack td:empty{display:none}
}
@media print{body{background:#fff}.card{break-inside:avoid;border-color:#ccc}nav{display:none}}
`;
