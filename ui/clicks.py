"""The one piece of JavaScript: it tells the page what was clicked in our own markup.

A click or change inside an element with ``data-...`` becomes the component's value and an ``input`` event; views and
the wipe are answered in the browser alone.
"""

# Radios: the value is the chosen option. The template is drawn anew then, so the focus is put back; a value that
# comes from elsewhere is set by hand, since a radio that was clicked no longer heeds its attribute.
CHOICE = """
element.addEventListener('change', event => {
  if (event.target.type !== 'radio') return;
  props.value = event.target.value;
  trigger('input');
  setTimeout(() => element.querySelector('input:checked')?.focus({preventScroll: true}), 30);
});
watch('value', () => element.querySelectorAll('input').forEach(radio => radio.checked = radio.value === props.value));
"""

# LOOK, LEGEND, NAME and FIRST are filled in once; only ``value`` and ``options`` change. Gradio loses ``options`` of a
# component that an event reaches before it is drawn (in a closed accordion), so the FIRST ones stand in the template.
CHOICE_TEMPLATE = """
${(all => `<fieldset class="choice LOOK">
  <legend>LEGEND</legend>
  <div class="options">${all.map(o => `<label class="${o.value === value ? 'on' : ''} ${o.off ? 'off' : ''}"
      title="${o.off || ''}">
    <input type="radio" name="NAME" value="${o.value}" ${o.value === value ? 'checked' : ''}
      ${o.off ? 'disabled' : ''}><span class="what">${o.label}</span>
    ${o.note ? `<span class="sub">${o.note}</span>` : ''}</label>`).join('')}</div>
  ${all.filter(o => o.off).map(o => `<p class="off-reason">${o.off}</p>`).filter(
      (p, i, every) => every.indexOf(p) === i).join('')}
</fieldset>`)(typeof options === 'undefined' ? FIRST : options)}
"""

# Stop is on and the words are there at once, also for those who wait for somebody else's drawing.
WAIT = """() => [{interactive: true, __type__: 'update'},
  '<p class="note" role="status">Waiting for the machine.</p>']"""

# The same for what is looked at in the setup.
LOOKING = """() => [{visible: true, __type__: 'update'},
  '<p class="note" role="status">Waiting for the machine.</p>']"""

# Two events fill in ``plan`` and ``pair``; whichever comes last, the mark is right.
STALE_TEMPLATE = """
${plan && pair && plan !== pair ? `<p>The pictures are from an earlier plan.
  Press Generate to draw with this one.</p>` : ''}
"""

# Buttons with data-say: a click is a select event that carries what the button says.
SAY = """
element.addEventListener('click', event => {
  const button = event.target.closest('[data-say]');
  if (!button) return;
  trigger('select', {said: button.dataset.say});
});
"""

# The picked layer is marked wherever layers are listed.
MARKED = """
window.prunescopePicked ??= '';
const marked = site => {
  window.prunescopePicked = site;
  document.querySelectorAll('[data-site]').forEach(
    row => row.setAttribute('aria-pressed', String(row.dataset.site === site)));
};
"""

LAYERS = MARKED + """
element.addEventListener('click', event => {
  const button = event.target.closest('[data-site]');
  if (!button) return;
  marked(button.dataset.site);
  trigger('select', {site: button.dataset.site});
});
let wanted = '';
const filter = () => {
  const words = wanted.toLowerCase().split(/\\s+/);
  element.querySelectorAll('[data-site]').forEach(b => {
    const text = (b.dataset.site + ' ' + b.textContent).toLowerCase();
    b.hidden = !words.every(w => text.includes(w));
  });
};
element.addEventListener('input', event => {
  if (!event.target.matches('.filter')) return;
  wanted = event.target.value;
  filter();
});
watch('value', () => {
  const box = element.querySelector('.filter');
  if (box) { box.value = wanted; filter(); }
});
if (window.prunescopePicked) marked(window.prunescopePicked); // this tab may be drawn after the pick
"""

# One pair of pictures, arranged in several ways. Blind order and votes stay in the browser.
STAGE = """
let chosen = 'sides', first = 'dense', was = false, held = false, fair = false;
const votes = {dense: 0, pruned: 0, same: 0, agree: 0, judged: 0};
const stage = () => element.querySelector('.stage');
const show = view => {
  const s = stage();
  if (!s) return;
  s.dataset.view = s.classList.contains('running') && view !== 'blind' ? 'sides' : view;
  s.querySelectorAll('.views [data-view]').forEach(
    b => b.setAttribute('aria-pressed', String(b.dataset.view === view)));
  arrange(s, s.dataset.view === 'blind' && s.dataset.told !== 'yes');
};
// The order is one of nodes, so that nobody is told by it; names come back when the view is left or the vote is cast.
const arrange = (s, blind) => {
  const sides = s.querySelector('.sides'), both = [...s.querySelectorAll('.side')];
  const left = '.' + (s.dataset.view === 'blind' ? first : 'dense');
  both.sort((a, b) => b.matches(left) - a.matches(left));
  [...both].reverse().forEach(side => sides.prepend(side));
  for (const side of both) {
    side.dataset.letter = side.matches('.' + first) ? 'A' : 'B';
    for (const image of side.querySelectorAll('img')) {
      image.dataset.alt ??= image.alt;
      image.alt = blind ? `picture ${side.dataset.letter}` : image.dataset.alt;
    }
  }
  const says = s.querySelector('.says');
  if (says && blind) says.textContent = 'Which side is better? The names come after your vote.' + (fair ? '' :
    ' You have seen this pair with its names, so the vote will not be counted: draw another in this view.');
  tell(s);
};
const tell = s => {
  const line = s.querySelector('.tally'), total = votes.dense + votes.pruned + votes.same;
  if (!line) return;
  line.textContent = !total ? '' : `Votes so far, ${total}: dense ${votes.dense}, pruned ${votes.pruned}, ` +
    `no difference ${votes.same}.` + (votes.judged ? ` emoji-clip (a proxy) agreed with ${votes.agree} of ` +
    `${votes.judged}.` : '');
};
const vote = (s, pick) => {
  const second = first === 'dense' ? 'pruned' : 'dense';
  const won = {a: first, b: second, same: 'same'}[pick], prefers = s.dataset.prefers;
  if (fair) {
    votes[won] += 1;
    if (won !== 'same' && prefers) { votes.judged += 1; votes.agree += won === prefers ? 1 : 0; }
  }
  s.dataset.told = 'yes';
  fair = false;
  s.querySelectorAll('[data-vote]').forEach(b => b.disabled = true);
  arrange(s, false);
  s.querySelector('.says').textContent = `A was ${first}, B was ${second}. ` +
    (won === 'same' ? 'You saw no difference.' : `You chose ${won}.`) + ' New seed and Generate draw the next pair.';
};
const shuffle = () => { first = Math.random() < 0.5 ? 'dense' : 'pruned'; };
const flip = on => {
  const s = stage();
  if (!s || held === on || s.classList.contains('running') || chosen === 'blind') return;
  held = on;
  s.dataset.view = on ? 'flip' : chosen;
  s.classList.toggle('flipped', on);
  s.querySelector('.hold')?.setAttribute('aria-pressed', String(on));
};
element.addEventListener('click', event => {
  const button = event.target.closest('button');
  if (!button) return;
  if (button.dataset.view) {
    if (button.dataset.view === 'blind' && chosen !== 'blind' && stage().dataset.told !== 'yes') shuffle();
    chosen = button.dataset.view;
    if (chosen !== 'blind') fair = false;
    show(chosen);
  }
  if (button.dataset.vote) vote(stage(), button.dataset.vote);
  if (button.matches('.hold') && event.detail === 0) flip(!held); // pressed by keyboard or voice: it stays
});
element.addEventListener('input', event => {
  if (event.target.matches('.wipe')) event.target.closest('.sides').style.setProperty('--at', event.target.value + '%');
});
element.addEventListener('pointerdown', event => { if (event.target.matches('.hold')) flip(true); });
document.addEventListener('pointerup', () => flip(false));
document.addEventListener('pointercancel', () => flip(false));
const typing = target => target.closest?.('textarea, select, [contenteditable], input:not([type=range], [type=radio])');
const swaps = event => event.key.toLowerCase() === 'f' && !event.ctrlKey && !event.metaKey && !event.altKey &&
  !typing(event.target) && element.offsetParent !== null;
document.addEventListener('keydown', event => { if (swaps(event)) { event.preventDefault(); flip(true); } });
document.addEventListener('keyup', event => { if (event.key.toLowerCase() === 'f') flip(false); });
window.addEventListener('blur', () => flip(false));
watch('value', () => {
  const s = stage(), runs = !!s && s.classList.contains('running');
  if (runs && !was) { shuffle(); fair = chosen === 'blind'; }
  was = runs;
  held = false;
  if (s) {
    delete s.dataset.told;
    s.querySelectorAll('img').forEach(image => delete image.dataset.alt);
    s.querySelectorAll('[data-vote]').forEach(b => b.disabled = false);
  }
  show(chosen);
});
"""

# The achieved line, and the shares of all layers, follow the slider while it is dragged: ``table`` has them for a few
# ratios, what is between is interpolated. The browser's own "change" comes on release, on every arrow key and when a
# number is done: then the exact figures are asked for. (Gradio's comes all the time, or never for the keyboard.)
ACHIEVED = """
const percent = share => (share * 100).toFixed(1) + ' %';
const between = (a, b, t) => a == null || b == null ? null : a + (b - a) * t;
let waiting = null;
const paint = asked => {
  waiting = null;
  const table = props.table ? JSON.parse(props.table) : null;
  if (!table) return;
  const last = table.ratios.length - 1;
  const at = Math.min(last, asked * 20), low = Math.min(Math.floor(at), last), high = Math.min(low + 1, last);
  for (const row of element.querySelectorAll('.row[data-name]')) {
    const name = row.dataset.name, of = table.totals[name];
    const share = name === 'asked' ? asked : of ? between(of[low], of[high], at - low) : null;
    if (share == null) { row.querySelector('.figure').firstChild.textContent = '–'; continue; }
    row.querySelector('.figure').firstChild.textContent = percent(share);
    row.querySelector('.track > span').style.width = Math.min(100, share * 100) + '%';
  }
  const a = table.shares[low], b = table.shares[high];
  if (a && b) rows(table.sites, a.map((share, i) => between(share, b[i], at - low)));
};
const rows = (sites, shares) => {
  const now = new Map(sites.map((site, i) => [site, shares[i]])), blocks = new Map();
  for (const row of document.querySelectorAll('[data-site]')) {
    const share = now.get(row.dataset.site), units = +row.dataset.size;
    if (share == null) continue;
    row.style.setProperty('--gone', share * 100 + '%');
    row.dataset.share = share;
    row.querySelector('.figure').textContent = percent(share);
    if (!row.dataset.block) continue;
    const sum = blocks.get(row.dataset.block) || [0, 0];
    blocks.set(row.dataset.block, [sum[0] + share * units, sum[1] + units]);
  }
  for (const head of document.querySelectorAll('.block[data-block]')) {
    const [gone, units] = blocks.get(head.dataset.block) || [0, 1];
    head.querySelector('.figure i').textContent = percent(gone / units);
  }
  document.dispatchEvent(new Event('prunescope-shares'));
};
watch('now', () => { if (props.now && props.table) rows(JSON.parse(props.table).sites, JSON.parse(props.now)); });
document.addEventListener('input', event => {
  if (event.target.matches?.('#ratio input[type=number]')) settle(300);
  if (!event.target.matches?.('#ratio input[type=range]')) return;
  if (!before) {
    const shares = props.table ? JSON.parse(props.table).sites.map(site => {
      const row = document.querySelector(`[data-site="${CSS.escape(site)}"]`);
      return row ? +row.dataset.share : null;
    }) : [];
    before = {value: settled, html: element.querySelector('.achieved')?.innerHTML, shares};
  }
  const asked = event.target.value / 100;
  if (waiting === null) requestAnimationFrame(() => paint(waiting));
  waiting = asked;
});
// Dragged away and back again: nothing is asked, so what was exact before is put back.
document.addEventListener('pointerup', () => setTimeout(() => {
  const range = document.querySelector('#ratio input[type=range]'), list = element.querySelector('.achieved');
  if (before && range && range.value === before.value && list) {
    list.innerHTML = before.html;
    if (props.table) rows(JSON.parse(props.table).sites, before.shares);
  }
  before = null;
}, 60));
watch('value', () => { settled = document.querySelector('#ratio input[type=range]')?.value; });
let before = null, settled = null;
let settling = 0;
const settle = ms => { clearTimeout(settling); settling = setTimeout(() => trigger('select', {}), ms); };
document.addEventListener('change', event => { if (event.target.matches?.('#ratio input')) settle(0); });
document.addEventListener('click', event => { if (event.target.closest?.('#ratio button')) settle(50); });
"""

# Rows of layers: a click picks one; the order is the browser's affair. While ratios are edited, rows are picked for
# the slider above them, several at a time; what it says is painted at once, and asked for when it is let go.
IMPORTANCE = MARKED + """
let order = 'order', editing = false;
const picks = new Set();
const sort = () => {
  const list = element.querySelector('.list');
  if (!list) return;
  const key = {order: r => +r.dataset.order, size: r => -r.dataset.size, share: r => -r.dataset.share}[order];
  const rows = [...list.querySelectorAll('[data-site]')], blocks = [...list.querySelectorAll('.block')];
  blocks.forEach(block => block.hidden = order !== 'order');
  const all = order === 'order' ? [...blocks, ...rows] : rows;
  all.sort((a, b) => key(a) - key(b) || (a.matches('.block') ? -1 : b.matches('.block') ? 1 :
    a.dataset.order - b.dataset.order)).forEach(row => list.append(row));
  [...list.querySelectorAll('[data-site]')].forEach((row, i) => row.tabIndex = i ? -1 : 0); // one stop, then arrows
  element.querySelectorAll('[data-sort]').forEach(
    b => b.setAttribute('aria-pressed', String(b.dataset.sort === order)));
};
const chosen = () => [...element.querySelectorAll('[data-site]')].filter(row => picks.has(row.dataset.site));
const edit = () => {
  const box = element.querySelector('.editor');
  if (!box) { editing = false; picks.clear(); return; }
  box.hidden = !editing;
  element.querySelector('[data-own]').setAttribute('aria-pressed', String(editing));
  element.querySelectorAll('[data-pick]').forEach(b => b.hidden = !editing);
  element.querySelectorAll('[data-site]').forEach(row => row.classList.toggle('chosen', picks.has(row.dataset.site)));
  const rows = chosen(), range = box.querySelector('input');
  if (rows.length && document.activeElement !== range) range.value = Math.round(rows[0].dataset.share * 100);
  box.querySelector('.count').textContent = rows.length ? `${rows.length} picked` : 'Pick layers or blocks below.';
  range.disabled = box.querySelector('[data-clear]').disabled = !rows.length;
  box.querySelector('.at').textContent = rows.length ? range.value + ' %' : '';
};
const pick = rows => {
  const all = rows.every(row => picks.has(row.dataset.site));
  rows.forEach(row => all ? picks.delete(row.dataset.site) : picks.add(row.dataset.site));
  edit();
};
const ask = ratio => trigger('override', {globs: chosen().map(row => row.dataset.glob), ratio});
element.addEventListener('click', event => {
  const by = event.target.closest('[data-sort]'), row = event.target.closest('[data-site]');
  const block = event.target.closest('[data-pick]');
  if (by) { order = by.dataset.sort; sort(); }
  if (event.target.closest('[data-own]')) { editing = !editing; if (!editing) picks.clear(); edit(); }
  if (event.target.closest('[data-clear]')) ask(null);
  if (event.target.closest('[data-clear-all]')) { picks.clear(); trigger('override', {globs: ['*'], ratio: null}); }
  if (block) pick([...element.querySelectorAll(`[data-site][data-block="${block.dataset.pick}"]`)]);
  if (!row) return;
  if (editing) { pick([row]); return; }
  marked(row.dataset.site);
  trigger('select', {site: row.dataset.site});
  setTimeout(() => document.querySelector(`#layers [data-site="${CSS.escape(row.dataset.site)}"]`)?.focus(), 600);
});
element.addEventListener('input', event => {
  if (!event.target.matches('.editor input')) return;
  element.querySelector('.at').textContent = event.target.value + ' %';
  for (const row of chosen()) {
    row.style.setProperty('--gone', event.target.value + '%');
    row.querySelector('.figure').textContent = (+event.target.value).toFixed(1) + ' %';
  }
});
let asking = 0; // the keyboard's every step is a change
element.addEventListener('change', event => {
  if (!event.target.matches('.editor input')) return;
  clearTimeout(asking);
  asking = setTimeout(() => ask(event.target.value / 100), 250);
});
document.addEventListener('prunescope-shares', () => { if (order === 'share') sort(); });
element.addEventListener('keydown', event => {
  const row = event.target.closest('[data-site]');
  const step = {ArrowDown: 'nextElementSibling', ArrowUp: 'previousElementSibling'}[event.key];
  if (!row || !step) return;
  event.preventDefault();
  let next = row[step];
  while (next && !next.matches('[data-site]')) next = next[step];
  if (next) { row.tabIndex = -1; next.tabIndex = 0; next.focus(); }
});
watch('value', () => { sort(); edit(); });
"""

# The line on top: the address of the page as it stands, and the view for a projector.
HEAD = """
const present = on => {
  document.body.classList.toggle('present', on);
  const query = new URLSearchParams(location.search);
  on ? query.set('present', '1') : query.delete('present');
  history.replaceState(null, '', '?' + query);
  if (on) document.querySelector('button[role=tab][data-tab-id=compare]')?.click();
  press();
};
const press = () => element.querySelector('[data-act=present]')?.setAttribute(
  'aria-pressed', String(document.body.classList.contains('present')));
watch('value', press);
element.addEventListener('click', async event => {
  const button = event.target.closest('[data-act]');
  if (!button) return;
  if (button.dataset.act === 'present') present(!document.body.classList.contains('present'));
  if (button.dataset.act === 'link') {
    try { await navigator.clipboard.writeText(location.href); button.textContent = 'Link copied'; }
    catch { prompt('Copy this link', location.href); }
    setTimeout(() => button.textContent = 'Copy link', 2000);
  }
});
document.addEventListener('keydown', event => {
  if (event.key === 'Escape' && document.body.classList.contains('present')) present(false);
  const typing = event.target.closest?.('textarea, input[type=text], input[type=number], input[type=search]');
  if (event.key === 'z' && (event.ctrlKey || event.metaKey) && !event.shiftKey && !typing) {
    event.preventDefault();
    document.querySelector('#undo')?.click();
  }
});
if (new URLSearchParams(location.search).get('present') === '1') setTimeout(() => present(true), 50);
"""

# The address follows the page; what is not ours in it (the theme) stays.
ADDRESS = """
watch('value', () => {
  const query = new URLSearchParams(props.value || '');
  for (const [key, value] of new URLSearchParams(location.search))
    if (key.startsWith('__') || key === 'present') query.set(key, value);
  history.replaceState(null, '', location.pathname + (query.size ? '?' + query : ''));
});
"""

# A text beside its Copy button.
COPY = """
element.addEventListener('click', async event => {
  const button = event.target.closest('.copy');
  if (!button) return;
  const body = button.parentElement.querySelector('pre');
  try { await navigator.clipboard.writeText(body.textContent); button.textContent = 'Copied'; }
  catch { getSelection().selectAllChildren(body); button.textContent = 'Selected: press Ctrl+C'; }
  setTimeout(() => button.textContent = 'Copy', 2000);
});
"""

# The mask picture: a click gives the place as shares of its width and height; arrow keys move it.
PLACE = """
const look = (x, y) => trigger('select', {x: Math.min(1, Math.max(0, x)), y: Math.min(1, Math.max(0, y))});
element.addEventListener('click', event => {
  const image = event.target.closest('img.tiles');
  if (!image) return;
  const box = image.getBoundingClientRect();
  look((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
});
element.addEventListener('keydown', event => {
  const step = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
  if (!step || !event.target.matches('button.look')) return;
  event.preventDefault();
  element.dataset.focus = 'yes';
  const {x, y} = event.target.dataset;
  look(+x + step[0] / 16, +y + step[1] / 16);
});
watch('value', () => {
  if (element.dataset.focus === 'yes') element.querySelector('button.look')?.focus({preventScroll: true});
  element.dataset.focus = '';
});
"""

# The layers of a coupled group: a cell says which it is, and picks another group in the list of layers. Arrow keys go
# from cell to cell; one that picked keeps the focus in the new picture, which has the same cells.
CELLS = """
const cells = () => [...element.querySelectorAll('.map button.cell')];
const listed = cell => document.querySelector(`#layers [data-site="${CSS.escape(cell.dataset.group ?? '')}"]`);
const told = cell => {
  const line = element.querySelector('.named'), other = listed(cell)?.querySelector('.name').textContent;
  line.textContent = cell.title + (other ? `. Press it for ${other}.` : '.');
};
element.addEventListener('focusin', event => { if (event.target.matches('.map .cell')) told(event.target); });
element.addEventListener('mouseover', event => {
  const cell = event.target.closest('.map .cell');
  if (cell) told(cell);
});
element.addEventListener('click', event => {
  const cell = event.target.closest('.map button.cell');
  if (!cell || !listed(cell)) return;
  const row = listed(cell), list = row.parentElement;
  element.dataset.cell = [...element.querySelectorAll('.map .cell')].indexOf(cell);
  list.scrollTop = row.offsetTop - list.offsetTop - 40;
  row.click();
});
element.addEventListener('keydown', event => {
  const step = {ArrowLeft: -1, ArrowRight: 1}[event.key];
  if (!step || !event.target.matches('.map button.cell')) return;
  event.preventDefault();
  const next = cells()[cells().indexOf(event.target) + step];
  if (next) { event.target.tabIndex = -1; next.tabIndex = 0; next.focus(); }
});
watch('value', () => {
  if (element.dataset.cell) element.querySelectorAll('.map .cell')[element.dataset.cell]?.focus({preventScroll: true});
  element.dataset.cell = '';
});
"""
