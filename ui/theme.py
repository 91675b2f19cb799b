"""Colours for the page and its figures alike: dense is blue, pruned is orange, removed is hatched. Light and dark."""

import gradio as gr

DENSE, PRUNED = "#2f6fd6", "#c2570c"


def theme() -> gr.themes.Base:
    """A quiet theme with system fonts: nothing is fetched from elsewhere."""
    fonts = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
    return gr.themes.Base(primary_hue=gr.themes.colors.blue, neutral_hue=gr.themes.colors.slate,
                          radius_size=gr.themes.sizes.radius_md, spacing_size=gr.themes.sizes.spacing_sm,
                          font=fonts, font_mono=["ui-monospace", "Consolas", "monospace"]).set(
        body_background_fill="#f6f7f9", block_shadow="none", block_border_width="1px",
        button_primary_background_fill=DENSE, button_primary_background_fill_hover="#255bb3",
        button_primary_text_color="#ffffff")


CSS = """
:root { --dense: #2f6fd6; --pruned: #c2570c; --card: #ffffff; --line: #dfe3e8; --ink: #1c2430; --soft: #5a6472;
  --hatch: repeating-linear-gradient(135deg, #b9b4ab 0 3px, transparent 3px 6px); --good: #1d6f42; --warn: #8a4b00; }
.dark { --dense: #6ea3ff; --pruned: #ff9d4d; --card: #161b24; --line: #2b3340; --ink: #e8ecf2; --soft: #a3adbb;
  --hatch: repeating-linear-gradient(135deg, #6d6a64 0 3px, transparent 3px 6px); --good: #6fd39b; --warn: #ffc069; }
.dark, .dark body { background: #0e1218; }
.gradio-container { max-width: 1440px !important; margin: 0 auto; padding: 10px 16px 40px !important; color: var(--ink); }
.gradio-container .prose { color: var(--ink); }
footer { opacity: .75; }

#head { display: block; }
#head .bar { display: flex; flex-wrap: wrap; gap: 4px 16px; align-items: baseline; border-bottom: 1px solid var(--line);
  padding: 4px 0 10px; }
#head h1 { font-size: 21px; margin: 0; font-weight: 700; letter-spacing: -.01em; color: var(--ink); }
#head .tag { color: var(--soft); font-size: 14px; }
#head .where { margin-left: auto; font-size: 13px; color: var(--soft); font-variant-numeric: tabular-nums; }

#setup { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 14px; gap: 12px;
  align-self: flex-start; }
#page { flex-wrap: nowrap; gap: 18px; }
#main { gap: 12px; min-width: 0; }
.hint, .sub, .how { color: var(--soft); font-size: 12.5px; line-height: 1.4; margin: 0; }
.problem:not(:has(p)), .stale:not(:has(p)), .unknown:not(:has(.chips)) { display: none !important; }
#setup .html-container, #main .html-container { padding: 0; }
fieldset.choice input[type=radio] { border: 1.5px solid var(--soft); }
.problem .alert { border: 1px solid #d3362d; border-left-width: 4px; background: rgba(211,54,45,.08); color: var(--ink);
  padding: 8px 10px; border-radius: 8px; font-size: 13.5px; margin: 0; }
.stale p { border: 1px solid var(--pruned); border-left-width: 4px; background: rgba(217,115,13,.08); padding: 7px 10px;
  border-radius: 8px; font-size: 13.5px; margin: 0; color: var(--ink); }

fieldset.choice { border: 0; margin: 0; padding: 0; min-width: 0; }
fieldset.choice legend { font-size: 12px; font-weight: 650; color: var(--soft); padding: 0; margin-bottom: 5px;
  text-transform: uppercase; letter-spacing: .05em; }
fieldset.choice .options { display: grid; gap: 4px; }
fieldset.choice label { display: grid; grid-template-columns: 16px 1fr; column-gap: 8px; padding: 6px 9px;
  border: 1px solid var(--line); border-radius: 8px; cursor: pointer; align-items: center; color: var(--ink);
  font-size: 13.5px; position: relative; }
fieldset.choice label .sub { grid-column: 2; }
fieldset.choice label.on { border-color: var(--dense); box-shadow: inset 0 0 0 1px var(--dense); }
fieldset.choice label.off { color: var(--soft); cursor: not-allowed; border-style: dashed; }
fieldset.choice label.off .what { text-decoration: line-through; }
fieldset.choice .off-reason { font-size: 12px; color: var(--soft); margin: 4px 0 0; line-height: 1.4; }
fieldset.choice.tabs .options { grid-auto-flow: column; grid-auto-columns: 1fr; }
fieldset.choice.tabs label { grid-template-columns: 1fr; text-align: center; padding: 7px 3px; }
fieldset.choice.tabs label input { position: absolute; opacity: 0; pointer-events: none; }
fieldset.choice.tabs label:has(:focus-visible), button:focus-visible, .card:focus-visible, .layer:focus-visible,
  input:focus-visible { outline: 3px solid var(--dense); outline-offset: 1px; }

.achieved { display: grid; gap: 5px; }
.achieved .row { display: grid; grid-template-columns: 62px 58px 1fr; gap: 8px; align-items: center; font-size: 13px; }
.achieved .name { color: var(--soft); } .achieved .figure { text-align: right; font-variant-numeric: tabular-nums; }
.track { height: 9px; border-radius: 3px; background: rgba(128,140,160,.16); overflow: hidden; display: block; }
.track > span { display: block; height: 100%; background-color: var(--pruned); }
.track.asked > span { background-color: var(--dense); opacity: .75; }
.track.gone > span { background: var(--hatch); background-color: color-mix(in srgb, var(--pruned) 55%, transparent); }

.stage { display: grid; gap: 10px; min-width: 0; }
.stage .note { font-size: 13px; color: var(--soft); margin: 0; }
.stage .sides { display: grid; grid-template-columns: 1fr 1fr; gap: 14px; }
.stage figure { margin: 0; border-radius: 12px; overflow: hidden; border: 2px solid; background: var(--card); min-width: 0; }
.stage .side.dense { border-color: var(--dense); } .stage .side.pruned { border-color: var(--pruned); }
.stage .grid { display: grid; gap: 2px; aspect-ratio: 1; max-height: 380px; margin: 0 auto; background: var(--card); }
.stage .grid.n2 { grid-template-columns: 1fr 1fr; align-items: center; }
.stage .grid.n3, .stage .grid.n4 { grid-template-columns: 1fr 1fr; }
.stage img { width: 100%; height: 100%; object-fit: contain; display: block; margin: 0; border-radius: 0; min-height: 0; }
.stage img.live { image-rendering: auto; filter: saturate(.95); }
.stage .blank { aspect-ratio: 1; background: repeating-linear-gradient(45deg, rgba(128,140,160,.07) 0 12px, transparent 12px 24px); }
.stage .caption { display: flex; flex-wrap: wrap; gap: 2px 12px; padding: 7px 11px; font-size: 13px; color: var(--soft);
  border-top: 1px solid var(--line); align-items: baseline; }
.stage .caption b { color: var(--ink); } .stage .dense .caption b { color: var(--dense); }
.stage .pruned .caption b { color: var(--pruned); }
.stage .clock { font-variant-numeric: tabular-nums; color: var(--ink); font-weight: 600; }
.stage .views { display: inline-flex; gap: 4px; justify-self: start; border: 1px solid var(--line); border-radius: 9px;
  padding: 3px; background: var(--card); }
.stage .views button { border: 0; background: transparent; color: var(--ink); font-size: 13px; padding: 5px 11px;
  border-radius: 7px; cursor: pointer; }
.stage .views button[aria-pressed=true] { background: var(--dense); color: #fff; }
.dark .stage .views button[aria-pressed=true] { color: #0e1218; }
.stage .wiper, .stage .change { display: none; }
.stage[data-view=wiper] .sides, .stage[data-view=change] .sides { display: none; }
.stage[data-view=change] .change { display: grid; gap: 8px; justify-items: center; }
.stage[data-view=wiper] .wiper { display: grid; }
.stage .wiper { --at: 50%; position: relative; justify-items: center; max-width: 380px; margin: 0 auto; width: 100%;
  border: 2px solid var(--line); border-radius: 12px; overflow: hidden; }
.stage .wiper > .grid, .stage .wiper > .over { grid-area: 1 / 1; width: 100%; }
.stage .wiper > .over { clip-path: inset(0 0 0 var(--at)); }
.stage .wiper::after { content: ''; position: absolute; top: 0; bottom: 0; left: var(--at); width: 2px;
  background: #fff; box-shadow: 0 0 0 1px rgba(0,0,0,.45); pointer-events: none; }
.stage .wiper .wipe { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0; cursor: ew-resize; z-index: 2; }
.stage .wiper:focus-within { outline: 3px solid var(--dense); }
.stage .tagd, .stage .tagp { position: absolute; top: 8px; font-size: 12px; font-weight: 650; padding: 2px 8px;
  border-radius: 6px; color: #fff; } .stage .tagd { left: 8px; background: #2f6fd6; }
.stage .tagp { right: 8px; background: #c2570c; }
.stage .change .grid { width: min(380px, 100%); }
.badge { font-size: 13px; margin: 0; color: var(--ink); } .badge b { color: var(--good); } .badge.none { color: var(--warn); }

.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(142px, 1fr)); gap: 10px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 9px 11px; display: grid;
  gap: 3px; align-content: start; min-width: 0; }
.card .label { font-size: 12px; color: var(--soft); font-weight: 600; }
.card .values { display: flex; gap: 10px; align-items: baseline; font-variant-numeric: tabular-nums; flex-wrap: wrap; }
.card i { font-style: normal; font-size: 17px; font-weight: 650; } .card i.dense { color: var(--dense); }
.card i.pruned { color: var(--pruned); } .card i.pruned::before { content: '→ '; color: var(--soft); font-weight: 400; }
.card .better { font-size: 12.5px; color: var(--ink); } .card .waiting { font-size: 14px; color: var(--soft); }
.card .how { display: none; } .card:hover .how, .card:focus .how { display: block; }

.chips { display: flex; flex-wrap: wrap; gap: 6px; align-items: center; }
.chips .lead { font-size: 12.5px; color: var(--soft); }
.chips button { font-weight: 400; border: 1px solid var(--line); background: var(--card); color: var(--ink); border-radius: 999px;
  font-size: 13px; padding: 4px 11px; cursor: pointer; }
.chips button:hover { border-color: var(--dense); }
.chips mark { background: rgba(217,115,13,.2); color: inherit; padding: 0 3px; border-radius: 3px; }

.layers .filter { width: 100%; border: 1px solid var(--line); background: var(--card); color: var(--ink); border-radius: 8px;
  padding: 7px 10px; font-size: 13.5px; margin-bottom: 8px; }
.layers .list { display: grid; gap: 3px; max-height: 640px; overflow-y: auto; padding: 3px; }
.layers .layer { display: grid; grid-template-columns: minmax(0, 1fr) auto; gap: 2px 8px; text-align: left;
  border: 1px solid transparent; background: transparent; color: var(--ink); border-radius: 8px; padding: 5px 8px;
  cursor: pointer; font-size: 13px; }
.layers .layer[hidden] { display: none; }
.layers .layer:hover { background: rgba(128,140,160,.1); }
.layers .layer[aria-pressed=true] { border-color: var(--dense); background: color-mix(in srgb, var(--dense) 9%, transparent); }
.layers .layer .track { grid-column: 1 / -1; height: 7px; } .layers .layer .sub { grid-column: 1 / -1; font-size: 11.5px; }
.layers .layer .name { overflow-wrap: anywhere; font-weight: 550; }
.layers .layer .sub { font-weight: 400; }
.layers .layer .figure { font-variant-numeric: tabular-nums; } .layers .layer.left .name { color: var(--soft); }

.mask { display: grid; gap: 12px; min-width: 0; }
.mask h3 { font-size: 15px; margin: 0; overflow-wrap: anywhere; color: var(--ink); }
.mask .views2 { display: grid; grid-template-columns: repeat(auto-fit, minmax(240px, 1fr)); gap: 14px; }
.mask figure { margin: 0; display: grid; gap: 6px; align-content: start; }
.mask img { width: 100%; image-rendering: pixelated; border: 1px solid var(--line); border-radius: 8px; margin: 0;
  background: #cdcdd2; max-height: 420px; object-fit: fill; }
.mask img.tiles { cursor: crosshair; min-height: 120px; }
.mask .key { display: flex; gap: 14px; font-size: 12.5px; color: var(--soft); }
.mask .key span::before { content: ''; display: inline-block; width: 12px; height: 12px; margin-right: 6px;
  vertical-align: -1px; border-radius: 2px; background: #3a6ec8; }
.mask .key .gone::before { background: #f7f4ef; box-shadow: inset 0 0 0 1px #b9b4ab; }
.mask.units .key .gone::before { background: var(--hatch); }
.groups { display: flex; flex-wrap: wrap; gap: 10px; }
.groups .group { display: flex; gap: 3px; padding: 5px; border: 1px solid var(--line); border-radius: 8px; background: var(--card); }
.groups .w { display: grid; grid-template-rows: 64px auto; width: 40px; align-items: end; text-align: center; }
.groups .w i { display: block; border-radius: 3px 3px 0 0; min-height: 2px; } .groups .w em { font-style: normal;
  font-size: 10.5px; color: var(--soft); font-variant-numeric: tabular-nums; }
.groups .kept i, .strip .kept i { background: #3a6ec8; } .groups .gone i, .strip .gone i { background: var(--hatch);
  box-shadow: inset 0 0 0 1px #b9b4ab; }
.groups .gone em { text-decoration: line-through; }
.strip { display: flex; flex-wrap: wrap; gap: 10px; }
.strip .run { display: flex; align-items: flex-end; gap: 1px; height: 84px; padding: 4px; border: 1px solid var(--line);
  border-radius: 8px; background: var(--card); max-width: 100%; overflow-x: auto; }
.strip .u { height: 100%; display: flex; align-items: flex-end; } .strip .u i { width: 10px; display: block; border-radius: 2px 2px 0 0; }
.strip .run:only-child .u { flex: 1 1 3px; min-width: 3px; } .strip .run:only-child { width: 100%; } .strip .run:only-child .u i { width: 100%; }

@media (max-width: 860px) {
  #page { flex-direction: column; } #setup { min-width: 0 !important; width: 100%; order: 2; } #main { width: 100%; order: 1; }
  .stage .sides { gap: 8px; } .stage .caption { padding: 6px 8px; gap: 1px 8px; font-size: 12px; }
  #head .where { margin-left: 0; } #head h1 { font-size: 18px; }
}
@media (prefers-reduced-motion: reduce) { * { animation: none !important; transition: none !important; } }
"""
