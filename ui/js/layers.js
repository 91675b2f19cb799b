// The list of layers: a click picks one, and what is typed above leaves those that match.
element.addEventListener('click', event => {
  const button = event.target.closest('[data-site]');
  if (!button) return;
  marked(button.dataset.site);
  trigger('select', {site: button.dataset.site});
});
let wanted = '';
const filter = () => {
  const words = wanted.toLowerCase().split(/\s+/);
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
