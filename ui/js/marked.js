// The picked layer is marked wherever layers are listed.
window.prunescopePicked ??= '';
const marked = site => {
  window.prunescopePicked = site;
  document.querySelectorAll('[data-site]').forEach(
    row => row.setAttribute('aria-pressed', String(row.dataset.site === site)));
};
