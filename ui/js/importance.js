// Rows of layers: a click picks one; the order is the browser's affair. While ratios are edited, rows are picked for
// the slider above them, several at a time; what it says is painted at once, and asked for when it is let go.
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
