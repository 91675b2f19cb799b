// The mask picture: a click gives the place as shares of its width and height; arrow keys move it.
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
