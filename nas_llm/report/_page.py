"""The report's page: markup, style, and the script that fits figures to light and dark."""

from __future__ import annotations

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title><!--title-->: search report</title>
<style>
:root { --ink: #1b1f24; --soft: #57606a; --line: #d0d7de; --paper: #ffffff; --shade: #f3f5f8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8eb; --soft: #a4adb8; --line: #3a424c; --paper: #15191e; --shade: #1f252c; }
}
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem; color: var(--ink); background: var(--paper);
  font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .25rem; }
h2 { font-size: 1.15rem; margin: 2.25rem 0 .5rem; }
p.lead, p.note { color: var(--soft); margin: 0 0 1rem; max-width: 62rem; }
p.lead strong { color: var(--ink); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { padding: .35rem .75rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, table.text td { text-align: left; }
thead th { color: var(--soft); font-weight: 600; vertical-align: bottom; white-space: normal; }
table.text thead th { text-align: left; }
tbody th { font-weight: 600; }
tr.dense { background: var(--shade); }
tr.knee { outline: 2px solid #cc79a7; outline-offset: -2px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.25rem; margin: 0 0 1rem; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
pre { background: var(--shade); border: 1px solid var(--line); border-radius: 6px; padding: .8rem 1rem;
  overflow-x: auto; }
</style>
<script><!--plotly--></script>
</head>
<body>
<main>
<h1><!--title--></h1>
<p class="lead"><!--summary--></p>

<h2 id="front">Front</h2>
<div role="figure" aria-labelledby="front" aria-describedby="points"><!--front_figure--></div>

<h2 id="points">Points</h2>
<div class="scroll">
<table>
<thead><tr><th scope="col">Point</th><th scope="col">Inheriting ratio</th><th scope="col">MACs per token</th>
<th scope="col">Parameters</th><th scope="col">KV-cache bytes per token</th><!--cost_columns-->
<th scope="col">In the search</th>
<th scope="col">Held-out perplexity</th><th scope="col">Times dense</th><th scope="col">Attention layers</th>
<th scope="col">FFN layers</th></tr></thead>
<tbody>
<!--points--></tbody>
</table>
</div>

<!--believed-->
<h2>Take a point out</h2>
<pre><code><!--commands--></code></pre>

<h2 id="convergence">Convergence</h2>
<p class="note">Normalised hypervolume of all subnets evaluated so far: 0 is useless, 1 would be the dense
model's quality at no cost.</p>
<div role="figure" aria-labelledby="convergence"><!--convergence_figure--></div>

<h2>What was searched</h2>
<dl><!--facts--></dl>
<div class="scroll">
<table class="text">
<thead><tr><th scope="col">Split</th><th scope="col">Used for</th><th scope="col">Text</th>
<th scope="col">Digest</th></tr></thead>
<tbody>
<!--texts--></tbody>
</table>
</div>
</main>
<script>
const dark = window.matchMedia("(prefers-color-scheme: dark)");
function paint() {
  const ink = getComputedStyle(document.documentElement).getPropertyValue("--ink").trim();
  const paper = getComputedStyle(document.documentElement).getPropertyValue("--paper").trim();
  for (const figure of document.querySelectorAll(".plotly-graph-div")) {
    Plotly.relayout(figure, {"font.color": ink, "hoverlabel.bgcolor": paper, "hoverlabel.font.color": ink});
  }
}
dark.addEventListener("change", paint);
paint();
</script>
</body>
</html>
"""
