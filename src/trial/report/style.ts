/** The style of the report: as the dashboard's, and for paper. */
export const STYLE = `
:root {
  color-scheme: light dark;
  --ground: light-dark(#ffffff, #14171b); --panel: light-dark(#f5f6f8, #1d2126);
  --text: light-dark(#16191d, #e8eaee); --quiet: light-dark(#545b66, #a6adb8);
  --grid: light-dark(#dfe2e7, #2c3138); --edge: light-dark(#d3d7de, #363c45);
  --good: light-dark(#0f6b3a, #6fd39b); --warn: light-dark(#8a5200, #f0b35c); --bad: light-dark(#b3160f, #ff8f86);
  --c0: light-dark(#0b62c4, #6cb2ff); --c1: light-dark(#b8480a, #ffa15c); --c2: light-dark(#16794a, #5fd59a);
  --c3: light-dark(#8a3fb0, #cf9bff); --c4: light-dark(#a8326e, #ff8fc0); --c5: light-dark(#5f6b00, #d3d95c);
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1rem clamp(0.75rem, 3vw, 2rem) 2rem; max-width: 80rem;
  background: var(--ground); color: var(--text);
  font: 0.9375rem/1.45 system-ui, sans-serif; font-variant-numeric: tabular-nums;
}
h1 { margin: 0; font-size: 1.35rem; }
h2 { margin: 2rem 0 0.75rem; font-size: 1.1rem; }
p, ul, dl, dd, figure { margin: 0; padding: 0; }
ul { list-style: none; }
.quiet, dt, small { color: var(--quiet); font-size: 0.8125rem; }
.verdict { margin-top: 1rem; border: 1px solid var(--edge); border-left: 5px solid var(--good); border-radius: 6px;
  background: var(--panel); padding: 0.6rem 0.9rem; overflow-wrap: anywhere; }
.verdict li { padding: 0.15rem 0; }
.verdict li:first-child { font-size: 1.1rem; font-weight: 600; } .verdict li.good:first-child { color: inherit; }
.verdict.warn-edge { border-left-color: var(--warn); } .verdict.bad-edge { border-left-color: var(--bad); }
.bad { color: var(--bad); font-weight: 600; } .warn { color: var(--warn); } .good { color: var(--good); }
.facts { display: grid; gap: 0.4rem 1.5rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 18rem), 1fr)); }
.facts dd { overflow-wrap: anywhere; } .again { margin-top: 0.6rem; }
.charts { columns: 24rem; column-gap: 0.75rem; }
figure { min-width: 0; padding: 0.6rem 0.8rem; border: 1px solid var(--edge); border-radius: 6px; background: var(--panel); break-inside: avoid; margin-bottom: 0.75rem; }
figcaption { font-weight: 600; margin-bottom: 0.4rem; }
figcaption small { display: block; font-weight: 400; }
svg { display: block; width: 100%; height: auto; }
svg text { font: 12px system-ui, sans-serif; fill: var(--text); }
svg .value { font-size: 11px; fill: var(--quiet); }
svg .grid { stroke: var(--grid); } svg .line { fill: none; stroke-width: 2; }
.legend { display: flex; flex-wrap: wrap; gap: 0.15rem 1rem; font-size: 0.875rem; margin-bottom: 0.75rem; }
.scroll { overflow-x: auto; border: 1px solid var(--edge); border-radius: 6px; }
table { width: 100%; border-collapse: collapse; }
.about { margin-bottom: 0.4rem; }
th, td { padding: 0.3rem 0.8rem; border-top: 1px solid var(--grid); text-align: right; vertical-align: top; }
td { white-space: nowrap; } td.words { white-space: normal; min-width: 11rem; max-width: 20rem; overflow-wrap: anywhere; }
th[scope="row"] { text-align: left; font-weight: 500; min-width: 8rem; max-width: 22rem; position: sticky; left: 0; background: var(--panel); }
thead th { background: var(--panel); } tbody th[scope="rowgroup"] { text-align: left; padding-top: 0.8rem; }
td small { display: block; } td.best { font-weight: 700; }
.notes li { padding: 0.1rem 0; overflow-wrap: anywhere; }
code { font-family: ui-monospace, monospace; font-size: 0.8125rem; overflow-wrap: anywhere; }
@media (max-width: 30rem) { th, td { padding-inline: 0.5rem; } }
@media print {
  :root { color-scheme: light; }
  body { max-width: none; padding: 0; font-size: 9pt; }
  .scroll { overflow: visible; border: 0; } th[scope="row"] { position: static; }
  td, td.words { white-space: normal; min-width: 0; } tr { break-inside: avoid; }
  thead { display: table-header-group; } h2 { break-after: avoid; }
}
${[0, 1, 2, 3, 4, 5].map((n) => `.fill-${n} { fill: var(--c${n}) !important; color: var(--c${n}); } .stroke-${n} { stroke: var(--c${n}); }`).join('\n')}
svg .mark { font-size: 13px; }
`;
