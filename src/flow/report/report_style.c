/* The page's CSS and its only script: sorting a table by a click on its head. */
#include "flow/report.h"

const char *const ht_report_style[] = {
    ":root{color-scheme:light dark;--paper:#fbfaf6;--card:#fff;--ink:#1d1c1a;--soft:#6d685f;--line:#e4dfd3;"
    "--accent:#007a99;--accent-soft:#cfe7ee;--warn:#b3123f;--warn-bg:#fdeef1;"
    "--v0:#2f7d5b;--v1:#2f7d5b;--v2:#3f8f8a;--v3:#2a7fa3;--v4:#b07a12;--v5:#c4551d;--v6:#b3123f;"
    "--h0:#e8f1f3;--h1:#cfe3ea;--h2:#b3d3df;--h3:#93c0d2;--h4:#76a9c2;--h5:#7a8fb4;--h6:#8c73a3;--h7:#9f558c;"
    "--h8:#ad356c;--h9:#b3123f}\n",
    "@media(prefers-color-scheme:dark){:root{--paper:#131416;--card:#1b1d20;--ink:#ebe8e1;--soft:#a19c91;"
    "--line:#2f3236;--accent:#45bfdc;--accent-soft:#17394a;--warn:#ff7c9c;--warn-bg:#34171f;"
    "--v0:#62c297;--v1:#62c297;--v2:#67bdb7;--v3:#58b3db;--v4:#e0ae49;--v5:#f08c55;--v6:#ff7c9c;"
    "--h0:#20313a;--h1:#24414d;--h2:#295363;--h3:#2f667a;--h4:#3c7891;--h5:#55739c;--h6:#75699f;--h7:#985c97;"
    "--h8:#c04f85;--h9:#ff6288}}\n",
    "*{box-sizing:border-box}html{font:16px/1.5 system-ui,-apple-system,\"Segoe UI\",\"Liberation Sans\",sans-serif}"
    "body{margin:0;background:var(--paper);color:var(--ink)}"
    "main,header,footer{max-width:1240px;margin:0 auto;padding:0 28px}"
    "header{padding-top:40px;position:relative}"
    ".dots{position:absolute;right:28px;top:34px;width:240px;fill:var(--accent);opacity:.85}"
    "h1{font-size:2rem;line-height:1.15;letter-spacing:-.02em;margin:0 0 6px;max-width:780px;overflow-wrap:anywhere}"
    "h2{font-size:1.15rem;letter-spacing:-.01em;margin:44px 0 12px}h2 small{font-weight:400;color:var(--soft);"
    "font-size:.85rem;margin-left:8px}"
    "p{margin:6px 0;max-width:110ch}.lead,.note{color:var(--soft)}.note{font-size:.86rem}\n",
    ".verdicts{list-style:none;padding:0;margin:14px 0;background:var(--card);border:1px solid var(--line);"
    "border-radius:8px;overflow:hidden}.verdicts li{display:grid;grid-template-columns:minmax(110px,17%) 122px 1fr;"
    "gap:2px 16px;border-left:5px solid var(--c);padding:7px 14px;font-size:.93rem}"
    ".verdicts li+li{border-top:1px solid var(--line)}"
    ".verdicts b{overflow-wrap:anywhere}.beats{color:var(--soft)}"
    ".tag{color:var(--c);font-weight:600;white-space:nowrap}"
    ".v0{--c:var(--v0)}.v1{--c:var(--v1)}.v2{--c:var(--v2)}.v3{--c:var(--v3)}.v4{--c:var(--v4)}.v5{--c:var(--v5)}"
    ".v6{--c:var(--v6)}.v-1{--c:var(--line)}\n",
    ".warnings{background:var(--warn-bg);border:1px solid var(--warn);border-radius:6px;padding:10px 16px;"
    "margin:18px 0}"
    ".warnings h2{margin:0 0 4px;font-size:1rem;color:var(--warn)}.warnings ul{margin:4px 0;padding-left:20px}"
    ".warnings li{overflow-wrap:anywhere}\n",
    ".scroll{overflow-x:auto;background:var(--card);border:1px solid var(--line);border-radius:8px}"
    "table{border-collapse:collapse;width:100%;font-size:.86rem;font-variant-numeric:tabular-nums}"
    "th,td{padding:8px 9px;text-align:right;vertical-align:top;border-bottom:1px solid var(--line);"
    "white-space:nowrap}"
    "th{font-weight:600;color:var(--soft);font-size:.78rem;white-space:normal;vertical-align:bottom}"
    "th[data-s]{cursor:pointer}th[data-s]:hover{color:var(--ink)}th[aria-sort]{color:var(--accent)}"
    "th.l,td.l{text-align:left}td:first-child{font-weight:600;white-space:normal;overflow-wrap:anywhere;"
    "min-width:130px}"
    "tbody tr:last-child td{border-bottom:0}tr.ref td{background:var(--accent-soft)}"
    "td small{display:block;color:var(--soft);font-size:.74rem;font-weight:400}\n",
    "figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:8px;padding:14px}"
    "figcaption{color:var(--soft);font-size:.86rem;padding:6px 4px 0}"
    ".plot{display:block;width:100%;height:auto}.plot text{font-size:12px;fill:var(--ink)}"
    ".plot .label{paint-order:stroke;stroke:var(--card);stroke-width:3px;stroke-linejoin:round}"
    ".plot .tick,.plot .axis-name{fill:var(--soft)}.plot .value{font-variant-numeric:tabular-nums}"
    ".grid{stroke:var(--line)}.faint{stroke-opacity:.45}.axis{stroke:var(--soft)}"
    ".dot{fill:var(--accent);stroke:var(--card);stroke-width:1.5}.beaten{fill:var(--card);stroke:var(--soft)}"
    ".error{stroke:var(--ink);stroke-opacity:.6;stroke-width:1.2}.leader{stroke:var(--soft);stroke-opacity:.6}"
    ".frontier{fill:none;stroke:var(--accent);stroke-opacity:.45;stroke-width:1.5;stroke-dasharray:5 4}"
    ".bar{fill:var(--c);fill-opacity:.85}.mark:hover .dot,.mark:hover .bar{fill-opacity:.6}"
    ".h0{fill:var(--h0)}.h1{fill:var(--h1)}.h2{fill:var(--h2)}.h3{fill:var(--h3)}.h4{fill:var(--h4)}"
    ".h5{fill:var(--h5)}.h6{fill:var(--h6)}.h7{fill:var(--h7)}.h8{fill:var(--h8)}.h9{fill:var(--h9)}\n",
    "details{background:var(--card);border:1px solid var(--line);border-radius:8px;margin:10px 0}"
    "summary{cursor:pointer;padding:9px 14px;font-weight:600;overflow-wrap:anywhere}"
    "details>*:not(summary){margin:0 14px 14px}"
    "details .scroll{max-height:480px;overflow:auto}details thead th{position:sticky;top:0;background:var(--card)}"
    "pre{font:12px/1.45 ui-monospace,\"DejaVu Sans Mono\",monospace;white-space:pre-wrap;overflow-wrap:anywhere;"
    "max-height:420px;overflow:auto}"
    "dl{display:grid;grid-template-columns:max-content 1fr;gap:4px 18px;font-size:.9rem;margin:0}"
    "dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}dd span{margin-right:9px}dd i{font-style:normal;"
    "color:var(--soft)}code{font:.86em ui-monospace,\"DejaVu Sans Mono\",monospace}"
    "footer{color:var(--soft);font-size:.82rem;padding-top:36px;padding-bottom:40px}\n",
    "@media(max-width:760px){.dots{display:none}main,header,footer{padding:0 16px}header{padding-top:24px}"
    "figure{overflow-x:auto}.plot{min-width:640px}.verdicts li,dl{grid-template-columns:1fr}}\n",
    "@media print{:root{--paper:#fff;--card:#fff}html{font-size:10.5px}.scroll{overflow:visible}"
    "figure,.verdicts li,.warnings{break-inside:avoid}details:not([open]){display:none}th,td{padding:4px 5px}"
    "*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}\n",
    NULL};

const char ht_report_script[] =
    "document.querySelectorAll('th[data-s]').forEach(function(h){h.tabIndex=0;function go(){"
    "var t=h.closest('table'),b=t.tBodies[0],i=h.cellIndex,up=h.getAttribute('aria-sort')!=='ascending';"
    "t.querySelectorAll('th').forEach(function(o){o.removeAttribute('aria-sort')});"
    "h.setAttribute('aria-sort',up?'ascending':'descending');"
    "Array.from(b.rows).sort(function(p,q){var x=p.cells[i].dataset.v,y=q.cells[i].dataset.v,c;"
    "if(x===undefined||y===undefined){c=p.cells[i].textContent.localeCompare(q.cells[i].textContent)}"
    "else if(x===''||y===''){return(x==='')-(y==='')}else{c=x-y}return up?c:-c})"
    ".forEach(function(r){b.appendChild(r)})}"
    "h.addEventListener('click',go);h.addEventListener('keydown',function(e){if(e.key==='Enter'){go()}})});";
