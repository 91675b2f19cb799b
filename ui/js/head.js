// The line on top: the address of the page as it stands, and the view for a projector.
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
