// The achieved line, and the shares of all layers, follow the slider while it is dragged: ``table`` has them for a few
// ratios, what is between is interpolated. The browser's own "change" comes on release, on every arrow key and when a
// number is done: then the exact figures are asked for. (Gradio's comes all the time, or never for the keyboard.)
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
