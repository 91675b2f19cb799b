"""The one piece of JavaScript: it tells the page what was clicked in our own markup.

A click or change inside an element with ``data-...`` becomes the component's value and an ``input`` event; views and
the wipe are answered in the browser alone.
"""

# Radios: the value is the chosen option. The template is drawn anew then, so the focus is put back.
CHOICE = """
element.addEventListener('change', event => {
  if (event.target.type !== 'radio') return;
  props.value = event.target.value;
  trigger('input');
  setTimeout(() => element.querySelector('input:checked')?.focus({preventScroll: true}), 30);
});
"""

# LOOK, LEGEND and NAME are filled in once; only ``value`` and ``options`` change.
CHOICE_TEMPLATE = """
<fieldset class="choice LOOK">
  <legend>LEGEND</legend>
  <div class="options">${options.map(o => `<label class="${o.value === value ? 'on' : ''} ${o.off ? 'off' : ''}"
      title="${o.off || ''}">
    <input type="radio" name="NAME" value="${o.value}" ${o.value === value ? 'checked' : ''}
      ${o.off ? 'disabled' : ''}><span class="what">${o.label}</span>
    ${o.note ? `<span class="sub">${o.note}</span>` : ''}</label>`).join('')}</div>
  ${options.filter(o => o.off).map(o => `<p class="off-reason">${o.off}</p>`).filter(
      (p, i, all) => all.indexOf(p) === i).join('')}
</fieldset>
"""

# A button that was off.
ENABLE = "() => ({interactive: true, __type__: 'update'})"

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

LAYERS = """
element.addEventListener('click', event => {
  const button = event.target.closest('[data-site]');
  if (!button) return;
  element.querySelectorAll('[data-site]').forEach(b => b.setAttribute('aria-pressed', String(b === button)));
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
"""

STAGE = """
const show = view => {
  const stage = element.querySelector('.stage');
  if (!stage || !stage.querySelector('.views')) return;
  stage.dataset.view = view;
  stage.querySelectorAll('[data-view]').forEach(b => b.setAttribute('aria-pressed', String(b.dataset.view === view)));
};
let chosen = 'sides';
element.addEventListener('click', event => {
  const button = event.target.closest('button[data-view]');
  if (button) { chosen = button.dataset.view; show(chosen); }
});
element.addEventListener('input', event => {
  if (event.target.matches('.wipe')) event.target.closest('.wiper').style.setProperty('--at', event.target.value + '%');
});
watch('value', () => show(chosen));
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
