// A text beside its Copy button.
element.addEventListener('click', async event => {
  const button = event.target.closest('.copy');
  if (!button) return;
  const body = button.parentElement.querySelector('pre');
  try { await navigator.clipboard.writeText(body.textContent); button.textContent = 'Copied'; }
  catch { getSelection().selectAllChildren(body); button.textContent = 'Selected: press Ctrl+C'; }
  setTimeout(() => button.textContent = 'Copy', 2000);
});
