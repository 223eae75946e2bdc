//! The page's style sheet, light and dark.

/// All of it.
pub const CSS: &str = "\
:root {
  --back: #ffffff; --text: #1c2128; --soft: #667080; --grid: #e3e6ea; --card: #f6f7f9;
  --good: #1a7f37; --bad: #c62828;
  --c0: #1f6feb; --c1: #d9480f; --c2: #2b8a3e; --c3: #862e9c; --c4: #c2255c; --c5: #0b7285; --c6: #a07500; --c7: #5c636a;
}
@media (prefers-color-scheme: dark) {
  :root {
    --back: #14171c; --text: #e4e8ee; --soft: #97a1af; --grid: #2b313a; --card: #1c2128;
    --good: #56d364; --bad: #ff7b72;
    --c0: #6cb0ff; --c1: #ff9f5a; --c2: #69db7c; --c3: #da9bf0; --c4: #ff8fb3; --c5: #5fd1e0; --c6: #f2cc5c; --c7: #adb5bd;
  }
}
body { margin: 0; background: var(--back); color: var(--text); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1000px; margin: 0 auto; padding: 24px 16px 64px; }
h1 { font-size: 1.6em; margin: 0 0 8px; overflow-wrap: anywhere; }
h2 { font-size: 1.15em; margin: 32px 0 8px; }
p { margin: 6px 0; }
p.good { color: var(--good); font-weight: 600; }
p.bad { color: var(--bad); font-weight: 600; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 10px; text-align: right; border-bottom: 1px solid var(--grid); white-space: nowrap; }
th { color: var(--soft); font-weight: 600; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 16px; margin: 8px 0; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
details { margin: 12px 0; }
summary { cursor: pointer; color: var(--soft); }
figure { margin: 16px 0; padding: 8px; background: var(--card); border-radius: 8px; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--text); font: 12px system-ui, sans-serif; }
svg .soft { fill: var(--soft); }
svg .title { font-size: 14px; font-weight: 600; }
svg .grid { stroke: var(--grid); stroke-width: 1; }
svg .mark { stroke: var(--bad); stroke-width: 1; stroke-dasharray: 5 4; }
svg .line { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
";
