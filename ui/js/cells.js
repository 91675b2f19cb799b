// The layers of a coupled group: a cell says which it is, and picks another group in the list of layers. Arrow keys go
// from cell to cell; one that picked keeps the focus in the new picture, which has the same cells.
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
