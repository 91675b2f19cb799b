// The address follows the page; what is not ours in it (the theme) stays.
watch('value', () => {
  const query = new URLSearchParams(props.value || '');
  for (const [key, value] of new URLSearchParams(location.search))
    if (key.startsWith('__') || key === 'present') query.set(key, value);
  history.replaceState(null, '', location.pathname + (query.size ? '?' + query : ''));
});
